"""Runs programs of another language than Python, one after another, by an interpreter that starts confined.

`python -I -S interpreter_runner.py SETUP`, with `messages.InterpreterSetup` as JSON, reads one job per line and writes
one verdict per line. Standard library only. The verdict is the interpreter's exit code, so the program itself decides
it; that the last line was reached is checked besides, which a program could forge as well.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import confinement
import layers
import seccomp
import zygote

sys.path.pop(0)

if TYPE_CHECKING:
    from runtime_matrix.experiments.sandbox.messages import InterpreterSetup, Job, Reply

_MOST_ERROR_BYTES = 4096  # of a program's errors that are kept, from the first on
_ERROR = re.compile(r"\w*Error\b|FATAL ERROR")  # how a line of node's or the runner's messages begins
_END = 3  # the descriptor to which a program's last line writes


@dataclass(frozen=True)
class _Exit:
    """How a program ended."""

    code: int | None  # negative: the signal; None: it was ended by the wall limit
    cpu_s: float  # of all its processes
    errors: str
    mark: bytes  # what it wrote to _END


def main() -> None:
    """Confine this process and serve jobs from stdin in the first process of a process namespace."""
    setup: InterpreterSetup = json.loads(sys.argv[1])
    nothing = os.open("/dev/null", os.O_RDWR)
    level = ["rlimits", *confinement.confine(setup, must_read=setup["command"][0])]
    own_filter = None
    if "seccomp" not in setup["without"]:
        try:
            own_filter = seccomp.interpreter_filter(setup["calls"], setup["can_fork"])
            level.append("seccomp")
        except OSError:
            pass
    pid = os.fork()
    if pid == 0:
        layers.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the namespace's first process gets only signals with a handler
        _serve(setup, level, own_filter, nothing)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status) != 0)


def _serve(setup: InterpreterSetup, level: list[str], own_filter: Any, nothing: int) -> None:
    jobs, replies = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    _say({"level": level}, replies)
    for line in jobs:
        _say(_judged(json.loads(line), setup, own_filter, nothing), replies)


def _say(message: Any, replies: TextIO) -> None:
    print(json.dumps(message), file=replies, flush=True)


def _judged(job: Job, setup: InterpreterSetup, own_filter: Any, nothing: int) -> Reply:
    start = time.monotonic()
    token = secrets.token_hex(16)
    with open(f"{setup['scratch']}/{setup['file']}", "w", encoding="utf-8") as file:
        file.write(f"{job['program']}\n{setup['last_line'].replace('{token}', token)}\n")
    end = _run(job, setup, own_filter, nothing, start + job["limits"]["wall_s"])
    status, reason = _verdict(end, token, job["limits"]["cpu_s"])
    return {
        "status": status,
        "reason": reason[:300],
        "cpu_s": end.cpu_s,
        "wall_s": time.monotonic() - start,
        "checks_passed": int(status == "passed"),
        "is_clean": zygote.clear(setup["scratch"]),
        "right": 0,
        "outputs": [],
    }


def _verdict(end: _Exit, token: str, cpu_limit_s: float) -> tuple[str, str]:
    """Return status and reason; what a limit ended is a timeout, whatever the exit code says."""
    if end.code is None:
        return "timeout", "longer than the wall limit"
    # The kernel enforces the limit by ticks, which may run a tenth ahead of the time that it reports.
    if end.code == -signal.SIGXCPU or end.cpu_s > cpu_limit_s or (end.code != 0 and end.cpu_s >= 0.9 * cpu_limit_s):
        return "timeout", f"longer than {cpu_limit_s} s of CPU time"
    lines = [line.strip() for line in end.errors.splitlines() if line.strip()]
    first_error = next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "")
    if end.code < 0:
        return "crash", first_error or f"killed by signal {-end.code}"
    if end.code > 0:
        return "failed", first_error or f"exit code {end.code}"
    if end.mark != token.encode():
        return "failed", "it ended before its last line"
    return "passed", ""


def _run(job: Job, setup: InterpreterSetup, own_filter: Any, nothing: int, deadline: float) -> _Exit:
    errors, errors_in = os.pipe()
    mark, mark_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(job, setup, own_filter, (nothing, nothing, errors_in, mark_in))
    os.close(errors_in)
    os.close(mark_in)
    texts = {errors: bytearray(), mark: bytearray()}
    is_late = not _watch(pid, texts, deadline)
    _kill_all(pid)
    _watch(None, texts, time.monotonic() + 1.0)  # all writers have ended, so this reads what is left
    code, cpu_s = _reap(pid)
    for file in texts:
        os.close(file)
    return _Exit(None if is_late else code, cpu_s, texts[errors].decode(errors="replace"), bytes(texts[mark]))


def _become(job: Job, setup: InterpreterSetup, own_filter: Any, files: tuple[int, ...]) -> None:
    """Confine this process and turn it into the interpreter; never returns."""
    try:
        os.setsid()
        for ignored in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        high = [os.dup(file) for file in files]  # beyond the descriptors that are replaced
        for number, file in enumerate(high):
            os.dup2(file, number)
        os.chdir(setup["scratch"])
        layers.limit(layers.Limits(**job["limits"]), {kind: value for kind, value in setup["memory"]})
        if own_filter is not None:
            own_filter.apply()
        os.execve(setup["command"][0], [*setup["command"], setup["file"]], setup["environment"])
    except BaseException as error:
        os.write(2, f"Error: the interpreter did not start: {error}".encode())
    finally:
        os._exit(127)


def _watch(pid: int | None, texts: dict[int, bytearray], deadline: float) -> bool:
    """Read the program's output until it ends, or until all writers have ended without a pid; False at the deadline."""
    process = os.pidfd_open(pid) if pid is not None else None
    open_files = set(texts)
    try:
        while open_files or process is not None:
            waited = [*open_files, *([process] if process is not None else [])]
            ready = select.select(waited, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready or time.monotonic() >= deadline:
                return False
            if process in ready:
                return True
            for file in ready:
                part = os.read(file, 1 << 16)
                if not part:
                    open_files.discard(file)
                texts[file] += part[: max(0, _MOST_ERROR_BYTES - len(texts[file]))]
        return True
    finally:
        if process is not None:
            os.close(process)


def _kill_all(pid: int) -> None:
    """Kill the program with all its processes: as the first process of the namespace, this one reaches them all."""
    if os.getpid() == 1:
        os.kill(-1, signal.SIGKILL)
    else:
        os.killpg(pid, signal.SIGKILL)


def _reap(pid: int) -> tuple[int, float]:
    """Return the program's exit code and the CPU seconds of all processes."""
    code, cpu_s = 0, 0.0
    while True:
        try:
            ended, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return code, cpu_s
        cpu_s += usage.ru_utime + usage.ru_stime
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
