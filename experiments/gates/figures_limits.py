"""Limits on figures that may exceed the reference's or the baseline's by a share: bytes, seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.gates.axis import Kept, Limits
from runtime_matrix.experiments.gates.baseline import figure_changes
from runtime_matrix.experiments.gates.findings import LimitResult, Measured, row_of
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.statistics.sequential import Verdict

Figures = dict[str, float | None]


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptFigures(Kept[Figures]):
    """The part of a baseline with figures of the matrix by key."""

    names: tuple[str, ...]
    kind: Any = Figures
    absent: Callable[[], Figures] | None = dict

    @override
    def make(self, result: Result, against: str | None) -> Figures:
        row = row_of(result)
        return {name: row[name] for name in self.names}

    @override
    def changes(self, before: Figures, now: Figures) -> list[str]:
        return figure_changes(before, now)


def judge_shares(
    measured: Measured,
    limits: Limits[Any],
    shares: Mapping[str, float],
    others: Mapping[str, float | None],
    unit: str,
) -> list[LimitResult]:
    """Return one finding per figure. `shares`: the allowed growth; `others`: the figures to judge against.

    Figures that are unknown on both sides are not judged.
    """
    row, results, against = row_of(measured.result), [], measured.rival(limits.part)
    for figure, share in shares.items():
        value, other, name = row[figure], others.get(figure), f"{limits.name}.{figure}"
        if value is None and other is None:
            continue
        if value is None or other is None:
            where = against if value is not None else "this run"
            results.append(LimitResult(measured.label, name, "inconclusive", f"{figure} is unknown for {where}"))
            continue
        is_over = value > other * (1 + share)
        text = (
            f"{figure} {_shown(value, unit)} against {_shown(other, unit)} of {against}, at most {100 * share:g} % more"
        )
        advice = ""
        if is_over:
            text += f": grew {100 * (value / other - 1):.1f} %" if other else ": grew from 0"
            advice = advice_on_growth(limits, name)
        verdict: Verdict = "fail" if is_over else "pass"
        bound = other * (1 + share)
        results.append(
            LimitResult(measured.label, name, verdict, text, unit, "lower", value, limit=bound, n=1, advice=advice)
        )
    return results


def advice_on_growth(limits: Limits[Any], name: str) -> str:
    """Return what to do if the figure of the limit `name` grew."""
    remedy = "update=true" if limits.part == "baseline" else f"raise gate.{name}"
    return f"find the cause, or if it is intended: {remedy}"


def _shown(value: float, unit: str) -> str:
    return f"{value:.2f} s" if unit == "s" else f"{value / 2**20:,.2f} MiB"
