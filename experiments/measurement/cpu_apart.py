"""CPU time of what sends requests, apart from that of the engine that answers; how long the sender lacked a core.

Linux tells how long threads were runnable without a core (/proc/PID/task/TID/schedstat); elsewhere that is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime_matrix.experiments.measurement.processes import TreeClock

Where = Literal["children", "threads", "elsewhere"]
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class CpuApart:
    """CPU seconds of both sides. None: unknown."""

    client_s: float | None
    engine_s: float | None
    client_waited_s: float | None  # threads of this process were runnable and had no core, summed over threads


def cpu_since(where: Where) -> Callable[[], CpuApart]:
    """Return a function for the CPU seconds since now, to be called from the same thread.

    `where` the engine computes: in child processes, in other threads of this process, or elsewhere, where its time is
    unknown.
    """
    tree = TreeClock()

    def read() -> tuple[float, float, float]:
        return tree(), time.process_time(), time.thread_time()

    start, waited_before = read(), waited_s()

    def since() -> CpuApart:
        total, process, thread = (now - before for now, before in zip(read(), start, strict=True))
        waited = _growth(waited_before, waited_s())
        if where == "threads":
            return CpuApart(thread, process - thread, None)
        return CpuApart(process, total - process if where == "children" else None, waited)

    return since


def waited_s(tasks: Path = _TASKS) -> dict[str, float] | None:
    """Return how long each thread has waited for a core so far, by its id; None where the kernel does not tell."""
    waited: dict[str, float] = {}
    try:
        for task in tasks.iterdir():
            try:
                waited[task.name] = int((task / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
            except FileNotFoundError:  # the thread has just ended, or the kernel does not tell
                continue
    except (OSError, ValueError, IndexError):
        return None
    return waited or None


def _growth(before: dict[str, float] | None, now: dict[str, float] | None) -> float | None:
    if before is None or now is None:
        return None
    return sum(max(0.0, seconds - before.get(name, 0.0)) for name, seconds in now.items())
