"""A pool for programs of another language than Python: the same layers, with all of them required.

A program is one text, its test included. Its verdict is its exit code, so it is made inside the program.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox.interpreters import interpreter, memory_limits
from runtime_matrix.experiments.sandbox.layers import Limits, readable_by_others
from runtime_matrix.experiments.sandbox.messages import InterpreterSetup
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict


class InterpreterPool(Pool):
    """Judges programs of one language. UserError if its interpreter is missing, unreadable or does not start."""

    _script = Path(__file__).with_name("interpreter_runner.py")
    # An interpreter starts processes and files of its own, so it needs a namespace and a root without others.
    _required = ("rlimits", "unprivileged", "namespaces", "pids", "private_root", "scratch", "seccomp")
    _can_be_unsafe = False

    def __init__(
        self,
        language: str,
        workers: int,
        limits: Limits | None = None,
        bubblewrap: bool = False,
        without: tuple[str, ...] = (),
    ):
        self._interpreter = interpreter(language)
        path = self._interpreter.path
        if os.geteuid() == 0 and not readable_by_others(os.path.realpath(path)):
            raise UserError(f"{path} cannot be read by the unprivileged user that runs programs: install it for all")
        super().__init__(workers, limits, False, bubblewrap, without)
        verdict = self.submit(Program(self._interpreter.language.probe, "", "", calls_check=False)).result()
        if not verdict.passed:
            self.close()
            raise UserError(
                f"{path} does not run in the sandbox ({verdict.status}: {verdict.reason}); install another version of "
                f"{self._interpreter.language.package}, or leave programs of this language out"
            )

    @property
    @override
    def versions(self) -> list[str]:
        """The interpreter, with its version."""
        return [f"{self._interpreter.language.title} {self._interpreter.version}"]

    @override
    def outputs(
        self, code: str, entry_point: str, inputs: Sequence[Sequence[object]], limits: Limits | None = None
    ) -> Future[Outputs]:
        raise UserError(f"functions are called in Python only, not in {self._interpreter.language.title}")

    @override
    def _copy_python(self) -> None:
        pass

    @override
    def _judge(self, program: Program, limits: Limits) -> Verdict:
        reply, wall_s = self._run(
            {
                "program": f"{program.code}\n{program.test}",
                "checks": [],
                "entry_point": "",
                "limits": {**vars(limits)},
                "early_stop": True,
                "cases": None,
            }
        )
        if reply is None:
            return Verdict("timeout", "the program did not end", None, wall_s)
        return Verdict(reply["status"], reply["reason"], reply["cpu_s"], reply["wall_s"])

    @override
    def _setup(self, scratch: str, base: str) -> InterpreterSetup:
        interpreter, memory_mib = self._interpreter, self._limits.memory_mib
        language = interpreter.language
        return {
            "library": [],
            "packages": "",
            "imported": [],
            "readable": list(interpreter.readable),
            "listable": [],
            "writable": ["/dev/null"],
            "executable": list(interpreter.executable),
            "shown": sorted({*interpreter.readable, *interpreter.executable}, key=len),
            "hidden": [],
            "scratch": scratch,
            "base": base,
            "without": list(self._without),
            "memory_mib": memory_mib,
            "command": [interpreter.path, *(argument.format(memory_mib=memory_mib) for argument in language.arguments)],
            "file": f"program{language.extension}",
            "last_line": language.last_line,
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "HOME": scratch,
                "TMPDIR": scratch,
                "UV_THREADPOOL_SIZE": "1",
                "PERL_HASH_SEED": "0",
            },
            "calls": language.calls,
            "memory": memory_limits(language, memory_mib),
            "can_fork": language.processes > 1,
        }
