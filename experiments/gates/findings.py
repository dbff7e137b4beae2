"""What a gate judges, and what it says of each limit."""

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
    advice: str = ""  # what to do, unless it passed
    history: str = ""  # what was found before, where it was measured once more

    @property
    def message(self) -> str:
        said = f"{self.figures}; {self.advice}" if self.advice else self.figures
        return f"{said} ({self.history})" if self.history else said


@dataclass(frozen=True)
class Measured:
    """What a run left of one cell that is judged, and of its reference."""

    label: str
    result: Result
    reference: Result
    baseline: Baseline | None

    @property
    def launches(self) -> list[Launch]:
        return self.result.speed.launches if self.result.speed is not None else []

    @property
    def against(self) -> str:
        return self.reference.record.runtime.name

    def rival(self, part: Part) -> str:
        """Return what limits of this part of a gate are judged against, as messages name it."""
        return self.against if part == "reference" else "the baseline"

    def kept(self, kept: Kept[T]) -> T:
        """Return what the baseline keeps; for limits that are judged only where there is one."""
        assert self.baseline is not None
        return kept.of(self.baseline)


def row_of(result: Result) -> Row:
    (row,) = rows([result])
    return row
