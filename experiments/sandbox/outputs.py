"""What a program returned for given inputs, to be compared outside the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.sandbox import values


@dataclass(frozen=True)
class Output:
    """What one call returned or raised. Outputs can be compared and hashed; `key` ignores the types of numbers."""

    # `values.canonical` of the value, or the name of the exception ("Exception" if it is not Python's own)
    text: str
    is_error: bool = False
    is_digest: bool = False  # the value is too long to keep: `text` is the SHA-256 of its `values.key`

    @property
    def value(self) -> Any:
        """Return the value; objects that are not plain data are `values.Opaque`. ValueError unless it was kept."""
        if self.is_error or self.is_digest:
            raise ValueError(f"the call raised {self.text}" if self.is_error else "the value was too long to keep")
        return values.loads(self.text)

    @property
    def key(self) -> str:
        """Return a text that is the same for all outputs that are equal to Python, such as 1, 1.0 and True."""
        if self.is_error or self.is_digest:
            return f"{'error' if self.is_error else 'digest'} {self.text}"
        return values.key(self.value)


@dataclass(frozen=True)
class Outputs:
    """The outputs of one program."""

    # "finished": each input has its output. "failed": the program does not load, or its answers are malformed or too
    # long. "crash" and "timeout": the program ended at the input after the last output.
    status: str
    reason: str
    outputs: tuple[Output, ...]  # of the first inputs, in their order
    cpu_s: float | None  # of the program alone; None if it was killed with its grader
    wall_s: float

    @property
    def is_complete(self) -> bool:
        """Return whether each input has its output."""
        return self.status == "finished"
