"""Run a command and tell the CPU time of all its processes, killed ones and orphans included.

`python whole_cpu.py COMMAND…` prints a line of JSON with the command's process id, and one with its exit code and the
CPU seconds when its last process has ended. Linux only; it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the command of the arguments."""
    # Orphans become children of this process, so that the kernel adds their time to that of its children.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    print(json.dumps({"process": process.pid}), flush=True)
    code = process.wait()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"exit_code": code, "cpu_s": used.ru_utime + used.ru_stime}), flush=True)


if __name__ == "__main__":
    main()
