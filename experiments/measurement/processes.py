"""The descendants of this process and their CPU time: work of a runtime's child processes counts as its own.

Linux only. Elsewhere there are no descendants, and the clock covers this process alone.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def descendants(pid: int | None = None, proc: Path = _PROC) -> list[int]:
    """Return the living descendants of a process (default: this one), parents before children."""
    pids, pending = [], [os.getpid() if pid is None else pid]
    while pending:
        children = _children(pending.pop(), proc)
        pids += children
        pending += children
    return pids


def _children(pid: int, proc: Path) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # the process has just ended
        for task in (proc / str(pid) / "task").iterdir():
            with suppress(OSError):
                children += map(int, (task / "children").read_text(encoding="utf-8").split())
    return children


def tree_cpu_s(proc: Path = _PROC) -> float:
    """Return the CPU seconds of this process and its descendants, also of those that a living one has waited for.

    Reading takes about 0.1 ms per process. The resolution is the kernel's tick, 10 ms, except for this process.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total_s = time.process_time() + ended.ru_utime + ended.ru_stime
    return total_s + sum(cpu_of(pid, proc) or 0.0 for pid in descendants(proc=proc))


def cpu_of(pid: int, proc: Path = _PROC) -> float | None:
    """Return the CPU seconds of a process and of the children that it has waited for; None if it has ended."""
    try:
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS_PER_S  # user, system, and both of waited-for children
    except (OSError, ValueError):
        return None


class TreeClock:
    """CPU seconds of this process and its descendants, including those that have ended.

    Reading takes about a microsecond per child. `refresh` looks for new children in /proc; call it outside timed work.
    """

    def __init__(self) -> None:
        self._children: dict[int, float] = {}  # process id: CPU seconds when last read
        self.refresh()

    def __call__(self) -> float:
        """Return the CPU seconds of this process and its descendants so far."""
        for pid in self._children:
            with suppress(OSError):  # ended and not yet reaped: its last reading still counts
                self._children[pid] = time.clock_gettime(_cpu_clock(pid))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime + sum(self._children.values())

    @property
    def children(self) -> frozenset[int]:
        """Return the process ids of the descendants known since the last `refresh`."""
        return frozenset(self._children)

    def refresh(self) -> None:
        """Add new children; reaped ones are counted by the kernel from now on."""
        self._children = {pid: self._children.get(pid, 0.0) for pid in descendants()}


def _cpu_clock(pid: int) -> int:
    """Return the kernel's clock id of another process's CPU time, computed as in clock_getcpuclockid(3)."""
    return (~pid << 3) | 2
