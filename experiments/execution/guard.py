"""End all processes of a run, however the run ends: each of them carries a mark in its environment.

As a script, `python guard.py MARK` waits for the end of its standard input, which comes when the run ends, also after
`kill -9`; then it ends the remaining processes. It imports only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Collection

NAME = "RUNTIME_MATRIX_RUN"
_PATIENCE_S = 2.0  # time in which processes may end by themselves
_GIVE_UP_S = 5.0  # after SIGKILL; a process that the kernel does not end is left
_TICK_S = 0.05
_TRACKER = b"multiprocessing.resource_tracker"  # ends by itself after it has removed resources of the others
_own: tuple[int, str] | None = None  # the process that created the mark, and the mark


def mark() -> str:
    """Return the mark for child processes of this process. The first call starts the guard."""
    global _own
    if _own is None or _own[0] != os.getpid():
        _own = (os.getpid(), secrets.token_hex(8))
        if sys.platform == "linux":
            _start(_own[1])
    return _own[1]


def end_all(patience_s: float = 0.0) -> None:
    """Wait `patience_s` for the processes with this process's mark to end by themselves, then send SIGKILL."""
    if _own is not None and _own[0] == os.getpid():
        end_marked(_own[1], patience_s)


def end_marked(value: str, patience_s: float) -> None:
    """Wait `patience_s` for the processes with this mark to end by themselves, then send SIGKILL."""
    start = time.monotonic()
    while left := marked(value):
        waited = time.monotonic() - start
        if waited > patience_s + _GIVE_UP_S:
            return
        if waited >= patience_s:
            for process in left:
                _kill(process, value)
        time.sleep(_TICK_S)


def end_new(value: str, known: Collection[int], patience_s: float) -> int:
    """Wait `patience_s` for marked processes that are not `known` to end, kill the others and return their number."""
    end = time.monotonic() + patience_s
    while (left := [process for process in marked(value) if process not in known]) and time.monotonic() < end:
        time.sleep(_TICK_S)
    for process in left:
        _kill(process, value)
    return len(left)


def marked(value: str) -> list[int]:
    """Return the ids of the processes with this mark; none if /proc does not show environments."""
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return [number for number in numbers if number != os.getpid() and _carries(number, value)]


def _carries(process: int, value: str) -> bool:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            if f"{NAME}={value}".encode() not in file.read().split(b"\0"):
                return False
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return _TRACKER not in file.read()
    except OSError:
        return False  # the process has ended, or belongs to another user


def _kill(process: int, value: str) -> None:
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process)  # so that a process that reuses the id is not killed
        try:
            if _carries(process, value):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _start(value: str) -> None:
    read_end, _write_end = os.pipe()  # the write end stays open until this process ends
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, value],
        {key: text for key, text in os.environ.items() if key != NAME},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, read_end, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,  # so that Ctrl-C does not end it
    )
    os.close(read_end)


if __name__ == "__main__":
    os.chdir("/")
    sys.stdin.buffer.read()
    end_marked(sys.argv[1], _PATIENCE_S)
