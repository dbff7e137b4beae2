"""Runs the checks of one program after another, each against an untrusted child process.

`python -I -S grader.py SETUP`, with `messages.Setup` as JSON, reads one job per line and writes one verdict per line.
Standard library only. It confines itself first, then forks the zygote, then reads its first job.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from types import CodeType
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import comparison
import confinement
import seccomp
import values
import zygote
from connection import MOST_BYTES, Connection, HasEnded

sys.path.pop(0)  # programs must not find these modules by name in this folder

if TYPE_CHECKING:
    from runtime_matrix.experiments.sandbox.messages import CasesMessage, Ended, Job, Order, Reply, Setup

_Names = dict[str, Any]  # the globals of a test


def main() -> None:
    """Confine this process, fork the zygote and grade jobs from stdin until it is closed."""
    orders, zygote_end = socket.socketpair()
    setup = json.loads(sys.argv[1])
    nothing = os.open("/dev/null", os.O_RDWR)  # opened first, because Landlock forbids opening it for writing
    threads = os.open("/proc/self/task", os.O_RDONLY)  # likewise, because the private root has no /proc
    level, filters = _confine(setup)
    _import(setup["imported"], threads)
    if os.fork() == 0:
        orders.close()
        zygote.serve(zygote_end, nothing, filters, setup["scratch"] if "scratch" in level else None)
    zygote_end.close()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(nothing, 2)  # the pipe is not read, and a full pipe blocks its writer
    os.dup2(nothing, 1)  # the output of tests must not mix with verdicts
    print(json.dumps({"level": level}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_grade(json.loads(line), orders)), file=replies, flush=True)


def _confine(setup: Setup) -> tuple[list[str], Any]:
    """Apply the layers that the host allows; return the names of the active layers, and the filters."""
    memory = setup["memory_mib"] << 20  # limits the grader, which reads answers of programs
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if setup["library"]:
        _move_library(setup["library"])
    sys.path += [setup["packages"]] if setup["packages"] else []
    level = ["rlimits", *confinement.confine(setup, must_read=(setup["library"] or [os.__file__])[0])]
    filters = None
    if "seccomp" not in setup["without"]:
        with contextlib.suppress(OSError):
            filters = seccomp.filters("scratch" in level and "landlock" in level)
            level.append("seccomp")
    return level, filters


def _move_library(library: list[str]) -> None:
    """Import from a copy of Python's library from now on, also the parts of packages that are imported already."""
    before = os.path.dirname(os.__file__)
    sys.path[:] = library
    for module in list(sys.modules.values()):
        for number, path in enumerate(getattr(module, "__path__", ())):
            module.__path__[number] = path.replace(before, library[0], 1)


def _import(packages: list[str], threads: int) -> None:
    """Import the packages, once for all programs. `threads` is a descriptor of the folder of threads; it is closed."""
    for name in packages:
        __import__(name)
        if len(os.listdir(threads)) > 1:
            sys.exit(f"{name} starts threads when it is imported, which no program would inherit: name another package")
    os.close(threads)


def _grade(job: Job, orders: socket.socket) -> Reply:
    start = time.monotonic()
    grader_end, program_end = socket.socketpair()
    order: Order = {"program": job["program"], "limits": job["limits"]}
    message = json.dumps(order).encode()
    socket.send_fds(orders, [b"%20d" % len(message)], [program_end.fileno()])
    orders.sendall(message)
    program_end.close()
    program = Connection(grader_end, start + job["limits"]["wall_s"])
    status, reason, passed = _run_checks(job, program)
    right: int | None = None
    outputs: list[Any] = []
    cases = job.get("cases")
    if status == "passed" and cases is not None:
        status, reason, right, passed_cases = _run_cases(job, program, cases)
        passed += passed_cases
    if status == "passed" and job.get("inputs"):
        status, reason = _trouble(program, partial(_collect, job, program, outputs)) or (status, reason)
    orders.sendall(b"end")
    ended: Ended = json.loads(orders.recv(4096))
    grader_end.close()
    if _is_over(status, ended, job):
        status, reason = "timeout", f"longer than {job['limits']['cpu_s']} s of CPU time"
    elif status == "crash" and ended["code"] < 0 and ended["code"] != -signal.SIGKILL:
        reason = f"killed by signal {-ended['code']}"
    return {
        "status": status,
        "reason": reason[:300],
        "cpu_s": ended["cpu_s"],
        "wall_s": time.monotonic() - start,
        "checks_passed": passed,
        "is_clean": ended["is_clean"],
        "right": right,
        "outputs": outputs,
    }


def _run_cases(job: Job, program: Connection, cases: CasesMessage) -> tuple[str, str, int, int]:
    """Return status and reason, by the first wrong output, how many were right before it, and how many in all."""
    trouble, right, passed = None, 0, 0
    for arguments, expected in zip(cases["inputs"], cases["expected"], strict=True):
        own_trouble = _trouble(program, partial(_compare, cases, arguments, expected, program, job["entry_point"]))
        trouble = trouble or own_trouble
        right += trouble is None
        passed += own_trouble is None
        if program.ended is not None or (trouble is not None and job["early_stop"]):
            break
    return (*(trouble or ("passed", "")), right, passed)


def _compare(
    cases: CasesMessage, arguments: str, expected: Sequence[str], program: Connection, entry_point: str
) -> None:
    is_value, value, _ = program.call(entry_point, arguments)
    if not is_value:
        raise AssertionError(f"it raised {value}")
    if not comparison.is_right(cases["oracle"], value, expected, values.loads(arguments), cases["atol"]):
        raise AssertionError(f"{_short(value)} instead of {expected[1][:60]}")


def _short(value: Any) -> str:
    try:
        text: str = values.canonical(value)
        return text[:60]
    except (RecursionError, MemoryError):
        return "a value that is nested too deeply"


def _collect(job: Job, program: Connection, outputs: list[Any]) -> None:
    """Append the output of each input; raises HasEnded."""
    size = 0
    for arguments in job["inputs"]:
        is_value, value, length = program.call(job["entry_point"], arguments)
        try:
            output = comparison.kept(value, length) if is_value else ("error", value)
        except (RecursionError, MemoryError):
            raise program.malformed() from None
        size += len(output[1])
        if size > MOST_BYTES:
            raise program.too_long()
        outputs.append(output)


def _run_checks(job: Job, program: Connection) -> tuple[str, str, int]:
    """Return status and reason, by the first trouble, and how many checks passed."""
    trouble = _trouble(program, program.answer)
    if trouble is not None:
        return (*trouble, 0)
    passed = 0
    shared: dict[str, _Names] = {}
    for check in job["checks"]:
        own_trouble = _trouble(program, partial(_run, check, program, job["entry_point"], shared))
        passed += own_trouble is None
        trouble = trouble or own_trouble
        if program.ended is not None or (trouble is not None and job["early_stop"]):
            break
    return (*(trouble or ("passed", "")), passed)


def _trouble(program: Connection, work: Callable[[], Any]) -> tuple[str, str] | None:
    """Do the work; return status and reason if it failed."""
    trouble = None
    try:
        work()
    except HasEnded:
        pass
    except AssertionError as error:
        trouble = "failed", f"AssertionError {error}".strip()
    except BaseException as error:
        trouble = "failed", f"{type(error).__name__}: {error}"
    if program.ended is not None:  # holds even if the test caught the exception
        trouble = program.ended.status, program.ended.reason
    return trouble


def _is_over(status: str, ended: Ended, job: Job) -> bool:
    """Return whether a program was ended by its limit of CPU time, or has passed beyond it by ignoring the signal."""
    limit_s = job["limits"]["cpu_s"]
    if status == "passed":
        return ended["cpu_s"] > limit_s
    if status == "timeout" or (status == "failed" and not job["early_stop"]):  # checks that follow do not count
        return False
    # The kernel enforces the limit by ticks, which may run a tenth ahead of the time that it reports, or more under
    # load. SIGKILL follows the limit if SIGXCPU was blocked.
    share = 0.6 if status == "crash" and ended["code"] == -signal.SIGKILL else 0.9
    return ended["code"] == -signal.SIGXCPU or ended["cpu_s"] >= share * limit_s


@lru_cache(maxsize=2048)  # the samples of a problem share its test
def _compiled(code: str) -> CodeType:
    return compile(code, "<test>", "exec")


def _run(check: dict[str, str], program: Connection, entry_point: str, shared: dict[str, _Names]) -> None:
    """Run one check. `shared`: the names that checks with the same setup have in common."""
    if check["kind"] == "call":
        names = shared.get(check["setup"])
        if names is None:
            names = {"__name__": "check"}
            exec(_compiled(check["setup"]), names)

            def stub(*arguments: Any, **keywords: Any) -> Any:
                return program.ask({"call": entry_point, "arguments": values.dumps((arguments, keywords))})

            names[entry_point] = stub
            shared[check["setup"]] = names
        exec(_compiled(check["code"]), names)
    elif check["kind"] == "value":
        value = program.ask({"value": check["code"]})
        assert value == ast.literal_eval(check["expected"]), check["code"]
    else:
        program.ask({"run": check["code"]})


if __name__ == "__main__":
    main()
