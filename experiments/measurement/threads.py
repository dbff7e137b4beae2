"""How many threads share the work of this process: unlike CPU time over wall time, other programs do not change it.

Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")


def cpu_by_thread() -> dict[int, float]:
    """Return the CPU seconds of each living thread of this process, by its id; empty where they are unknown."""
    seconds: dict[int, float] = {}
    with suppress(OSError):
        for task in _TASKS.iterdir():
            with suppress(OSError):  # the thread has just ended
                seconds[int(task.name)] = time.clock_gettime(_cpu_clock(int(task.name)))
    return seconds


def threads_used(before: Mapping[int, float], after: Mapping[int, float]) -> float | None:
    """Return the CPU time of all threads over that of the busiest: 2 if two threads did half of the work each.

    None if it is unknown, or nothing was computed.
    """
    spent = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
    return sum(spent) / max(spent) if spent and max(spent) > 0 else None


def _cpu_clock(thread: int) -> int:
    """Return the kernel's clock id of a thread's CPU time, computed as in pthread_getcpuclockid(3)."""
    return (~thread << 3) | 6
