"""What a program returned for given inputs, to be compared outside the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.sandbox import values


@dataclass(frozen=True)
class Output:
    """What one call returned or raised. Outputs can be compared and hashed."""

    text: str  # `values.canonical` of the value, or the name of the exception ("Exception" if it is not Python's own)
    is_error: bool = False

    @property
    def value(self) -> Any:
        """Return the value; objects that are not plain data are `values.Opaque`. ValueError if the call raised."""
        if self.is_error:
            raise ValueError(f"the call raised {self.text}")
        return values.loads(self.text)


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
