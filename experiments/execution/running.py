"""Watch the processes of jobs, one or several at once, in one loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.execution.outcome import kernel_kills
from runtime_matrix.experiments.execution.worker import jobs as child
from runtime_matrix.experiments.measurement.memory import MemoryTrace
from runtime_matrix.experiments.measurement.processes import cpu_of

TICK_S = 0.5  # each tick reads /proc once per process: about 50 µs of a core that is being measured
ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """A job of `execution.worker.jobs` on a cell; `on_progress` gets its messages, and None at each tick."""

    name: str
    cell: Cell
    folder: Path
    limit_s: float
    on_progress: Callable[[Any], None]
    argument: Any = None


@dataclass
class Running:
    """A job whose process has started."""

    job: Job
    process: Any
    receiver: Any  # of its messages
    orders: Any  # to it: further cells
    deadline: float
    trace: MemoryTrace
    cpu_s: float | None = None  # of the process so far
    is_spent: bool = False  # the process itself has said its CPU time
    before_cpu_s: float = 0.0  # that the process had used for earlier cells
    kills_before: int = field(default_factory=kernel_kills)
    is_open: bool = True  # more messages may come
    read_at: float = 0.0

    @property
    def job_cpu_s(self) -> float | None:
        """Return the CPU seconds of the job: those of the process, without those for earlier cells."""
        return None if self.cpu_s is None else max(0.0, self.cpu_s - self.before_cpu_s)

    def take(self) -> None:
        """Read memory and CPU time, at most twice per second."""
        self.trace.take()
        if not self.is_spent and time.monotonic() - self.read_at >= TICK_S:
            self.read_at = time.monotonic()
            self.cpu_s = cpu_of(self.process.pid) or self.cpu_s  # 0 of a process that has ended and is not yet reaped

    def receive(self) -> bool:
        """Forward a message; return whether it says that the process waits for a further cell."""
        try:
            message = self.receiver.recv()
        except (EOFError, OSError):
            self.is_open = False
            return False
        if message == (child.KEPT,):
            return True
        if message[0] == child.SPENT:
            self.cpu_s, self.is_spent = message[1], True
            return False
        self.job.on_progress(message)
        return False


def watch(running: Sequence[Running]) -> tuple[Running, str | None]:
    """Forward progress until a process ends, keeps its base or reaches its deadline.

    Return it with `ENDED`, `child.KEPT` or None for the deadline.
    """
    while True:
        left = min(one.deadline for one in running) - time.monotonic()
        receivers = [one.receiver for one in running if one.is_open]
        sentinels = [one.process.sentinel for one in running]
        ready = wait([*receivers, *sentinels], timeout=max(0.0, min(TICK_S, left)))
        for one in running:
            one.take()
            if one.is_open and one.receiver in ready:
                if one.receive():
                    return one, child.KEPT
            elif one.process.sentinel in ready:
                return one, ENDED
            elif time.monotonic() >= one.deadline:
                return one, None
        if not ready:
            for one in running:
                one.job.on_progress(None)
