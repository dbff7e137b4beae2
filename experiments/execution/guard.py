"""Ends what a run has started, however the run ends: each process that it starts carries a mark in its environment.

Also a script: `python guard.py MARK` waits until its standard input ends, which is when the run has ended (by `kill -9`
too), and ends what is left. It imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time

NAME = "RUNTIME_MATRIX_RUN"
_PATIENCE_S = 2.0  # in which processes end by themselves
_GIVE_UP_S = 5.0  # a process that the kernel does not let go
_TICK_S = 0.05
_TRACKER = b"multiprocessing.resource_tracker"  # ends by itself, when it has removed what the others left
_own: tuple[int, str] | None = None  # the process that made the mark, and the mark


def mark() -> str:
    """Return the mark of what this process starts. The first call starts the guard."""
    global _own
    if _own is None or _own[0] != os.getpid():
        _own = (os.getpid(), secrets.token_hex(8))
        if sys.platform == "linux":
            _start(_own[1])
    return _own[1]


def end_all(patience_s: float = 0.0) -> None:
    """End every process that carries this process's mark: by itself within `patience_s`, or by SIGKILL."""
    if _own is not None and _own[0] == os.getpid():
        end_marked(_own[1], patience_s)


def end_marked(value: str, patience_s: float) -> None:
    start = time.monotonic()
    while left := marked(value):
        waited = time.monotonic() - start
        if waited > patience_s + _GIVE_UP_S:
            return
        if waited >= patience_s:
            for process in left:
                _kill(process, value)
        time.sleep(_TICK_S)


def marked(value: str) -> list[int]:
    """Return the processes that carry the mark; none where /proc does not show environments."""
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
        return False  # it has ended, or is another user's


def _kill(process: int, value: str) -> None:
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process)  # so that a number that was given anew meanwhile is not hit
        try:
            if _carries(process, value):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _start(value: str) -> None:
    reading, _writing = os.pipe()  # the writing end stays open as long as this process lives
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, value],
        {key: text for key, text in os.environ.items() if key != NAME},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,  # a Ctrl-C is not for it
    )
    os.close(reading)


if __name__ == "__main__":
    os.chdir("/")
    sys.stdin.buffer.read()
    end_marked(sys.argv[1], _PATIENCE_S)
