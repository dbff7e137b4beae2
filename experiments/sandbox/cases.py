"""Tests that are data: inputs of a function, and the outputs that a reference solution gives for them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from runtime_matrix.experiments.sandbox.messages import CasesMessage
from runtime_matrix.experiments.sandbox.outputs import Output
from runtime_matrix.experiments.sandbox.values import loads


@dataclass(frozen=True)
class Suite:
    """The inputs of a problem, and the reference solution that knows their outputs."""

    name: str  # of the problem, for messages
    reference: str  # a whole program
    validity: str | None  # a program whose function raises for inputs that break the problem's contract
    entry_point: str
    base: tuple[str, ...]  # lists of arguments, as `values.dumps` writes them
    plus: tuple[str, ...]  # the added inputs
    atol: float = 0.0  # absolute tolerance
    oracle: str = "equal"  # of `comparison.py`

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the content in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cases:
    """Inputs with the outputs that are right; the first `base` are the base tests."""

    inputs: tuple[str, ...]
    expected: tuple[Output, ...]
    base: int
    atol: float = 0.0
    oracle: str = "equal"
    skipped: int = 0  # added inputs that break the contract

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the content in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def message(self) -> CasesMessage:
        """Return what a grader needs."""
        expected = [("digest" if output.is_digest else "value", output.text) for output in self.expected]
        return {"inputs": list(self.inputs), "expected": expected, "atol": self.atol, "oracle": self.oracle}

    def base_status(self, right: int, status: str) -> str:
        """Return the status of the base tests alone, for a program that ended after `right` right outputs."""
        return "passed" if right >= self.base else status

    def explain(self, right: int, reason: str) -> str:
        """Return the reason with the input at which a program failed after `right` right outputs."""
        if right >= len(self.inputs) or not reason:
            return reason
        name = f"base input {right}" if right < self.base else f"plus input {right - self.base}"
        arguments = ", ".join(map(repr, loads(self.inputs[right])))
        return f"{name} ({arguments if len(arguments) <= 100 else arguments[:97] + '...'}): {reason}"
