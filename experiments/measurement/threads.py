"""The threads that computed within a block of work, in this process and its descendants. Linux only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from runtime_matrix.experiments.measurement.processes import descendants

_PROC = Path("/proc")
_BUSY_SHARE = 0.2  # of an even share of the CPU time; helper threads of torch and Python reach half of that
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
ThreadTimes = dict[tuple[int, int], float]  # (process, thread): CPU seconds


def thread_times() -> ThreadTimes:
    """Return the CPU seconds of each living thread so far; empty where the system does not report them.

    Those of this process are exact, those of descendants are multiples of 10 ms. Takes microseconds per thread.
    """
    if not sys.platform.startswith("linux"):
        return {}
    own = os.getpid()
    times: ThreadTimes = {}
    for tid in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):  # it has just ended
            times[own, tid] = time.clock_gettime(_thread_clock(tid))
    for pid in descendants():
        for task in _tasks(pid):
            with suppress(OSError, ValueError, IndexError):
                user, system = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
                times[pid, int(task.name)] = (int(user) + int(system)) / _TICKS
    return times


def threads_named(names: Collection[str]) -> frozenset[tuple[int, int]]:
    """Return (process, thread) of the living threads with these names; none where the system does not report them."""
    found = set()
    for pid in (os.getpid(), *descendants()) if names else ():
        for task in _tasks(pid):
            with suppress(OSError):  # it has just ended
                if (task / "comm").read_text(encoding="utf-8").strip() in names:
                    found.add((pid, int(task.name)))
    return frozenset(found)


def busy_threads(
    before: Mapping[tuple[int, int], float],
    after: Mapping[tuple[int, int], float],
    cpu_s: float,
    threads: int,
    besides: Collection[tuple[int, int]] = (),
) -> int:
    """Return how many threads computed: those with at least a fifth of an even share of `cpu_s` among `threads`.

    `cpu_s` is the CPU time of all processes. Threads `besides` carry data and compute nothing, so they do not count.
    What no living thread accounts for was computed by threads that have ended, and counts as one more thread.
    """
    least = _BUSY_SHARE * cpu_s / threads
    by_thread = {key: seconds - before.get(key, 0.0) for key, seconds in after.items()}
    spent = list(by_thread.values())
    busy = sum(seconds >= least for key, seconds in by_thread.items() if seconds > 0 and key not in besides)
    own = os.getpid()
    rounding_s = sum(pid != own for pid, _ in after) / _TICKS
    return busy + (cpu_s - sum(spent) > least + rounding_s)


def threads_used(before: Mapping[tuple[int, int], float], after: Mapping[tuple[int, int], float]) -> float | None:
    """Return the CPU time of all threads over that of the busiest: 2 if two threads did half of the work each.

    Unlike CPU time over wall time, other programs do not change it. None if it is unknown, or nothing was computed.
    """
    spent = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
    return sum(spent) / max(spent) if spent and max(spent) > 0 else None


def _tasks(pid: int) -> list[Path]:
    with suppress(OSError):
        return list((_PROC / str(pid) / "task").iterdir())
    return []


def _thread_clock(tid: int) -> int:
    """Return the kernel's clock id of the CPU time of a thread of this process, as in pthread_getcpuclockid(3)."""
    return (~tid << 3) | 6
