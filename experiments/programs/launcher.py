"""Start one program and measure it: `python -I -S launcher.py` reads a request and prints a result, both as JSON.

It is a process of its own because the kernel passes the peak memory of a parent on to its child: measured from a large
process, a small program would seem large. The peak is thus never below this launcher's own, some 10 MiB. It imports
only the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any


def main() -> None:
    """Run the program of the request: its argv, directory, time limit and files for its output."""
    request = json.load(sys.stdin)
    print(json.dumps(_measure(request)))


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    try:
        os.chdir(request["directory"])
    except OSError as error:
        return {"problem": f"its folder {request['directory']} cannot be entered: {error.strerror}"}
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    for number, name in ((1, "stdout"), (2, "stderr")):
        files.append((os.POSIX_SPAWN_OPEN, number, request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    argv = request["argv"]
    start = time.perf_counter()
    try:
        process = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files, setsid=True)
    except OSError as error:
        return {"problem": f"{argv[0]} cannot be started: {error.strerror}"}
    is_late = False

    def stop(*_: object) -> None:
        nonlocal is_late
        is_late = True
        with contextlib.suppress(OSError):
            os.killpg(process, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
    _, status, usage = os.wait4(process, 0)
    wall_s = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    if is_late:
        return {"problem": f"it ran for longer than the time limit of {request['timeout_s']:g} s"}
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
        "exit_code": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    main()
