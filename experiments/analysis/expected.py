"""What a document expects on a hardware profile, beside what was measured there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.schema import ExpectedBy, ExpectedFigure
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.schema import Record


@dataclass(frozen=True)
class Expectation:
    """An expected figure, and the measured one in its unit; None if the hardware, the model or the figure differs."""

    figure: ExpectedFigure
    measured: float | None

    @property
    def text(self) -> str:
        """Return both in words."""
        figure, unit = self.figure, f" {self.figure.unit}" if self.figure.unit else ""
        spread = f"{figure.low:g}" if figure.low == figure.high else f"{figure.low:g} to {figure.high:g}"
        measured = "n/a" if self.measured is None else f"{self.measured:.3g}{unit}"
        return f"{figure.title} {spread}{unit}, measured {measured}"


def expectations(record: Record, figures: Mapping[str, float | None]) -> list[Expectation]:
    """Return the figures that the record's profile expects; `figures` are those of its row."""
    hw = record.config.get("hw")
    expected, by = (hw.get(key) if isinstance(hw, dict) else None for key in ("expected", "expected_by"))
    if not expected or not by or not isinstance(hw, dict):
        return []
    try:
        wanted = [build(ExpectedFigure, figure, "hw.expected") for figure in expected]
        model = build(ExpectedBy, by, "hw.expected_by").model
    except UserError:  # a record of another version of the program
        return []
    # A mismatch that was allowed makes another machine of it.
    is_there = hw.get("allow_mismatch") is False and _plain(model) in _plain(record.model.name)
    return [Expectation(figure, _measured(figure, figures) if is_there else None) for figure in wanted]


def expected_note(record: Record, figures: Mapping[str, float | None]) -> str | None:
    """Return what the record's profile expects and what was measured, in one line; None without expected figures."""
    found = expectations(record, figures)
    if not found:
        return None
    by = record.config["hw"]["expected_by"]
    return f"{record.hw.name}, as {by['document']} expects of {by['model']}: " + ", ".join(one.text for one in found)


def _measured(figure: ExpectedFigure, figures: Mapping[str, float | None]) -> float | None:
    value = figures.get(figure.figure) if figure.figure is not None else None
    return None if value is None else value * figure.scale


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
