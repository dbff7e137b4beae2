"""What a gate judges, and what it says of each limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.gates.baseline import Baseline
from runtime_matrix.experiments.measurement.sequential import Verdict
from runtime_matrix.experiments.records.matrix import rows

Launches = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
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
    record: dict[str, Any]  # with `speed` attached
    folder: Path
    reference_record: dict[str, Any]
    reference_folder: Path
    baseline: Baseline | None

    @property
    def against(self) -> str:
        return str(self.reference_record["runtime"]["name"])


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    (row,) = rows([dict(record)])
    return row
