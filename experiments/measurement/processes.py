"""The processes below this one, and the CPU time of all of them: what a runtime computes in a child counts as its own.

Linux only; elsewhere there are no children to see, and the clock is this process's own.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int | None = None, proc: Path = _PROC) -> list[int]:
    """Return the living descendants of a process (default: this one), parents before children."""
    found, pending = [], [os.getpid() if pid is None else pid]
    while pending:
        children = _children(pending.pop(), proc)
        found += children
        pending += children
    return found


def _children(pid: int, proc: Path) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # a process that has just ended
        for task in (proc / str(pid) / "task").iterdir():
            with suppress(OSError):
                children += map(int, (task / "children").read_text(encoding="utf-8").split())
    return children


class TreeClock:
    """CPU seconds of this process and its descendants, ended ones included.

    Reading costs about a microsecond for each child. `refresh` looks for new children; it reads /proc, so call it
    outside what is timed.
    """

    def __init__(self) -> None:
        self._children: dict[int, float] = {}  # process id: CPU seconds when last read
        self.refresh()

    def __call__(self) -> float:
        for pid in self._children:
            with suppress(OSError):  # ended and not yet collected: what it used when last read still counts
                self._children[pid] = time.clock_gettime(_cpu_clock(pid))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime + sum(self._children.values())

    @property
    def children(self) -> frozenset[int]:
        return frozenset(self._children)

    def refresh(self) -> None:
        """Take up new children; those that were collected now count among the ended ones."""
        self._children = {pid: self._children.get(pid, 0.0) for pid in descendants()}


def _cpu_clock(pid: int) -> int:
    """Return the kernel's clock id of another process's CPU time, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
