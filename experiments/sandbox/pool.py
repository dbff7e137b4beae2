"""A pool of graders, each with a zygote, that judges programs submitted from any thread.

It refuses to run generated code without rlimits, an unprivileged user and seccomp, unless `allow_unsafe` is set.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox.checks import plan_checks
from runtime_matrix.experiments.sandbox.grader_process import GraderProcess
from runtime_matrix.experiments.sandbox.layers import Limits, readable_by_others
from runtime_matrix.experiments.sandbox.messages import Job, Reply, Setup
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.sandbox.packages import copy_to, find
from runtime_matrix.experiments.sandbox.places import copied_library, places
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.sandbox.values import dumps

# What programs could do without a layer, and the layers that keep them from it as well.
LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rlimits": ("take all memory and time", ()),
    "unprivileged": ("act as root", ()),
    "namespaces": ("use the network", ("seccomp",)),
    "pids": ("end other processes", ("seccomp",)),
    "private_root": ("see which files and processes exist", ()),  # processes in /proc
    "scratch": ("share a folder", ("seccomp",)),  # which forbids writing where a program has no folder of its own
    "landlock": ("read your files", ("private_root",)),
    "seccomp": ("make most system calls", ()),
}
REQUIRED = ("rlimits", "unprivileged", "seccomp")
_GRADER_MIB = 256  # more than a program's memory, since the grader holds answers while reading them
_GRACE_S = 5.0  # time of a grader beyond a program's wall limit


def note_of(level: Sequence[str]) -> str | None:
    """Return which layers are active and which are missing, and what programs can do then; None if all are active."""
    missing = [layer for layer in LAYERS if layer not in level]
    if not missing:
        return None
    dangers = [LAYERS[layer][0] for layer in missing if not set(LAYERS[layer][1]) & set(level)]
    then = f"programs can {', '.join(dangers)}" if dangers else "the other layers forbid the same"
    active = ", ".join(layer for layer in LAYERS if layer in level)
    return f"the sandbox has {active} and lacks {', '.join(missing)}: {then}"


class Pool:
    """Judges programs in up to `workers` graders. UserError without the required layers; `without` omits layers.

    With `early_stop`, the first check that fails ends a test; without it, all are run and counted.
    Programs can import Python's own modules and the named `packages`.
    """

    _script = Path(__file__).with_name("grader.py")
    _required: tuple[str, ...] = REQUIRED
    _can_be_unsafe = True

    def __init__(
        self,
        workers: int,
        limits: Limits | None = None,
        allow_unsafe: bool = False,
        bubblewrap: bool = False,
        without: tuple[str, ...] = (),
        early_stop: bool = True,
        packages: Sequence[str] = (),
    ):
        if sys.platform != "linux":
            raise UserError("generated code needs Linux for its sandbox; leave the benchmark code out on this system")
        if bubblewrap and shutil.which("bwrap") is None:
            raise UserError(
                "sandbox.bubblewrap=true, but bwrap is not installed: install bubblewrap or set it to false"
            )
        self._limits, self._bubblewrap, self._without = limits or Limits(), bubblewrap, without
        self._early_stop = early_stop
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._library: list[str] = []
        self.packages = find(packages)
        self._copy_python()
        try:
            first = self._first(allow_unsafe)
        except UserError:
            if self._copy is not None:
                self._copy.cleanup()
            raise
        self.level: list[str] = first.level
        self._free: queue.SimpleQueue[GraderProcess | None] = queue.SimpleQueue()
        self._free.put(first)
        for _ in range(workers - 1):
            self._free.put(None)  # started on demand
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")

    def _copy_python(self) -> None:
        must_copy = os.geteuid() == 0 and not readable_by_others(os.__file__)  # root's own library
        if not must_copy and not self.packages:
            return
        self._copy = tempfile.TemporaryDirectory(prefix="sandbox-python-")
        os.chmod(self._copy.name, 0o755)
        if must_copy:
            self._library = copied_library(Path(self._copy.name) / "python")
        if self.packages:
            copy_to(self.packages, Path(self._copy.name) / "packages")

    def _first(self, allow_unsafe: bool) -> GraderProcess:
        grader = self._start()
        missing = [layer for layer in self._required if layer not in grader.level]
        if missing and not allow_unsafe:
            grader.close()
            is_root = "unprivileged" in missing and os.geteuid() == 0  # in bubblewrap, or without capabilities
            advice = "start it as a user other than root" if is_root else "use another host"
            if not is_root and "namespaces" in missing and "namespaces" in self._required:
                advice += ", or allow user namespaces, which a container's seccomp profile may forbid"
            raise UserError(
                f"generated code requires {', '.join(self._required)}; this host lacks {', '.join(missing)}: "
                f"{advice}{', or set sandbox.allow_unsafe=true' if self._can_be_unsafe else ''}"
            )
        return grader

    @property
    def note(self) -> str | None:
        """What `note_of` says about the level of this pool."""
        return note_of(self.level)

    def submit(self, program: Program, limits: Limits | None = None) -> Future[Verdict]:
        """Queue a program and return its verdict as a future. `limits`: of this program, in place of the pool's."""
        return self._threads.submit(self._judge, program, limits or self._limits)

    def outputs(
        self, code: str, entry_point: str, inputs: Sequence[Sequence[object]], limits: Limits | None = None
    ) -> Future[Outputs]:
        """Queue a program and return as a future what its function returns for each list of arguments.

        All calls are made in one process, in order; every call gets its own copy of its arguments, which are plain
        values (`values.py`). An exception ends its call only. `limits`: as for `submit`.
        """
        texts = [dumps(list(row)) for row in inputs]
        return self._threads.submit(self._outputs, code, entry_point, texts, limits or self._limits)

    @property
    def limits(self) -> Limits:
        """The limits of programs that have none of their own."""
        return self._limits

    @property
    def versions(self) -> list[str]:
        """What programs run with besides Python: its packages, with their versions."""
        return [str(package) for package in self.packages]

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel waiting programs, wait for running ones and end the graders."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._free.empty():
            if (grader := self._free.get()) is not None:
                grader.close()
        if self._copy is not None:
            self._copy.cleanup()

    def _judge(self, program: Program, limits: Limits) -> Verdict:
        try:
            checks = plan_checks(
                program.test, program.entry_point, program.calls_check, program.helpers, split=not self._early_stop
            )
        except (SyntaxError, ValueError) as error:
            return Verdict("failed", f"the test is not valid Python: {error}", None, 0.0)
        job: Job = {
            "program": program.code,
            "checks": [check.plain() for check in checks],
            "entry_point": program.entry_point,
            "limits": asdict(limits),
            "early_stop": self._early_stop,
            "cases": program.cases.message() if program.cases is not None else None,
        }
        reply, wall_s = self._run(job)
        cases = program.cases
        if reply is None:
            status = "timeout"
            return Verdict(status, "the check did not end", None, wall_s, base_status=status if cases else None)
        reason, base_status = reply["reason"], None
        if cases is not None:
            right = reply["right"]
            base_status = cases.base_status(right or 0, reply["status"])
            reason = reason if right is None else cases.explain(right, reason)
        verdict = Verdict(reply["status"], reason, reply["cpu_s"], reply["wall_s"], base_status=base_status)
        if self._early_stop:
            return verdict
        parts = len(checks) + (len(cases.inputs) if cases is not None else 0)
        return replace(verdict, checks=parts, checks_passed=reply["checks_passed"])

    def _outputs(self, code: str, entry_point: str, inputs: list[str], limits: Limits) -> Outputs:
        job: Job = {
            "program": code,
            "checks": [],
            "entry_point": entry_point,
            "limits": asdict(limits),
            "early_stop": True,
            "inputs": inputs,
        }
        reply, wall_s = self._run(job)
        if reply is None:
            return Outputs("timeout", "the program did not end", (), None, wall_s)
        status = "finished" if reply["status"] == "passed" else reply["status"]
        answers = tuple(Output(text, kind == "error", kind == "digest") for kind, text in reply["outputs"])
        return Outputs(status, reply["reason"], answers, reply["cpu_s"], reply["wall_s"])

    def _run(self, job: Job) -> tuple[Reply | None, float]:
        """Return the reply of a grader, None if it ended or took too long, and the wall seconds."""
        grader = self._free.get()
        try:
            if grader is None:
                grader = self._start()
            start = time.monotonic()
            reply = grader.grade(job, job["limits"]["wall_s"] + _GRACE_S)
            if reply is None or not reply["is_clean"]:  # it left files that the next program could find
                grader.close()
                grader = None
            return reply, time.monotonic() - start
        finally:
            self._free.put(grader)

    def _start(self) -> GraderProcess:
        folder = tempfile.mkdtemp(prefix="sandbox-")
        scratch, base = f"{folder}/scratch", f"{folder}/root"
        for path in (folder, scratch, base):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o755)
        setup = self._setup(scratch, base)
        command = [os.path.realpath(sys.executable), "-I", "-S", "-W", "ignore", str(self._script), json.dumps(setup)]
        if self._bubblewrap:
            wrap = "bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all --die-with-parent --new-session"
            command = [*wrap.split(), "--bind", folder, folder, *command]
        return GraderProcess(command, folder)

    def _setup(self, scratch: str, base: str) -> Setup:
        return {
            **places(self._library, f"{self._copy.name}/packages" if self._copy and self.packages else ""),
            "scratch": scratch,
            "base": base,
            "without": list(self._without),
            "memory_mib": self._limits.memory_mib + _GRADER_MIB,
            "imported": [package.name for package in self.packages],
        }
