"""A program with its test, and the verdict on it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from runtime_matrix.experiments.sandbox.cases import Cases


@dataclass(frozen=True)
class Program:
    """A program and its test; `problems/formats/format.py` describes the fields."""

    code: str
    test: str
    entry_point: str
    calls_check: bool
    helpers: str = ""
    cases: Cases | None = None  # run after the test

    @property
    def digest(self) -> str:
        """Return the SHA-256 of program and tests in hexadecimal."""
        content = [self.code, self.test, self.entry_point, self.calls_check, self.helpers]
        cases = self.cases.digest if self.cases is not None else None
        return hashlib.sha256(json.dumps([*content, cases]).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """The result of running a program's test."""

    status: str  # "passed", "failed", "crash" or "timeout"
    reason: str
    cpu_s: float | None  # of the program alone; None if it was killed with its grader
    wall_s: float
    checks: int | None = None  # parts of its test; None with early stop
    checks_passed: int | None = None
    base_status: str | None = None  # of the base tests alone; None for a program without cases

    @property
    def passed(self) -> bool:
        """Return whether the status is "passed"."""
        return self.status == "passed"

    @property
    def passed_base(self) -> bool:
        """Return whether the base tests passed; all tests are base tests for a program without cases."""
        return (self.base_status or self.status) == "passed"
