"""The input and the output of a gate's judgement: a measured cell, and one result per limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.gates.axis import Kept, Part
from runtime_matrix.experiments.gates.baseline import Baseline
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.statistics.sequential import Verdict

T = TypeVar("T")


@dataclass(frozen=True)
class LimitResult:
    """One limit's verdict. `value` and its bounds are in `unit`; `limit` is the bound that must hold."""

    cell: str
    name: str  # as in the configuration: reference.speedup.decode
    verdict: Verdict
    figures: str  # in one line
    unit: str = ""
    better: str = "higher"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    n: int | None = None
    advice: str = ""  # what to do if it did not pass
    history: str = ""  # the earlier finding, if it was measured again

    @property
    def message(self) -> str:
        """Return one line: the figures, the advice and the history."""
        text = f"{self.figures}; {self.advice}" if self.advice else self.figures
        return f"{text} ({self.history})" if self.history else text


@dataclass(frozen=True)
class Measured:
    """The results of a judged cell and of its reference in the same run."""

    label: str
    result: Result
    reference: Result
    baseline: Baseline | None

    @property
    def launches(self) -> list[Launch]:
        """Return the interleaved launches; empty if there are none."""
        return self.result.speed.launches if self.result.speed is not None else []

    @property
    def against(self) -> str:
        """Return the name of the reference's runtime."""
        return self.reference.record.runtime.name

    def rival(self, part: Part) -> str:
        """Return the name, for messages, of the other side of this part's limits."""
        return self.against if part == "reference" else "the baseline"

    def kept(self, kept: Kept[T]) -> T:
        """Return a part of the baseline, which must exist: for limits of the baseline part only."""
        assert self.baseline is not None
        return kept.of(self.baseline)


def row_of(result: Result) -> Row:
    """Return the matrix row of a single result."""
    (row,) = rows([result])
    return row
