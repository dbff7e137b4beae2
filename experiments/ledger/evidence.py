"""The measured figure of a claim, from the rows of a matrix; the newest row that has it counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.columns import SCORES
from runtime_matrix.experiments.config.renamed import new_preset
from runtime_matrix.experiments.ledger.claim import Claim, MeasuredBy
from runtime_matrix.experiments.ledger.verdict import Measured
from runtime_matrix.experiments.records.metric import error_key
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.switches import switch_key

EXACT = ("weight_bytes", "weight_disk_bytes", "kv_bytes_per_token")  # counted, not measured
_RATIO = "speedup_ratio"
_NORMAL = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Evidence:
    """A measured figure and the row that it is of."""

    measured: Measured
    row: Row


def evidence(claim: Claim, rows: Sequence[Row]) -> Evidence | None:
    """Return the newest figure of a claim; None if no row has it."""
    by = claim.measured_by
    if by is None:
        return None
    for row in sorted(rows, key=lambda row: row.started_at, reverse=True):
        if row.status != "ok" or (by.cell is not None and not _is_cell(row, by.cell)):
            continue
        if by.adapter not in (None, row.adapter) or by.model not in (None, row.model):
            continue
        measured = _of_row(claim, by, row, rows)
        if measured is not None and all(map(math.isfinite, (measured.value, *measured.bounds))):
            return Evidence(measured, row)
    return None


def _is_cell(row: Row, cell: str) -> bool:
    name, _, dtype = cell.partition("/")
    return _title(row) == name and dtype in ("", row.dtype)


def _title(row: Row) -> str:
    """Return the row's runtime under the current name of its weights: a published row keeps the earlier one."""
    engine, _, weights = row.runtime.partition("+")
    renamed = new_preset(f"runtime/weights={weights}")
    return row.runtime if renamed is None else f"{engine}+{renamed.partition('=')[2]}"


def _of_row(claim: Claim, by: MeasuredBy, row: Row, rows: Sequence[Row]) -> Measured | None:
    if by.switch is not None:
        return _interval(row, switch_key(by.switch, by.clock))
    assert by.figure is not None
    if by.over_figure is not None:
        return _quotient(_with_error(row, by.figure), _with_error(row, by.over_figure))
    if by.over is None:
        return _level(row, by.figure, by.scale)
    beside = [other for other in rows if other.run_id == row.run_id and other.model_digest == row.model_digest]
    other = next((other for other in beside if other.status == "ok" and _is_cell(other, by.over)), None)
    return None if other is None else _between(claim, by.figure, row, other)


def _between(claim: Claim, figure: str, row: Row, other: Row) -> Measured | None:
    """Return the factor of two rows of a run by which the first is better."""
    if figure.endswith(_RATIO):
        return _quotient(_speedup(row, figure), _speedup(other, figure))
    if figure in SCORES:
        return _score(row, other, figure)
    value, before = row.get(figure), other.get(figure)
    if figure not in EXACT or not value or not before:
        return None
    factor = value / before if claim.quantity in ("score", "rate") else before / value
    return Measured(factor, factor, factor)


def _speedup(row: Row, figure: str) -> Measured | None:
    """Return a speedup over the reference of the run; the reference's own is 1."""
    return Measured(1.0, 1.0, 1.0) if row.is_reference else _interval(row, figure)


def _score(row: Row, other: Row, figure: str) -> Measured | None:
    """Return the factor of two scores, from differences paired by item with the reference of the run."""
    scores = [_paired_score(one, figure) for one in (row, other)]
    return _quotient(*scores)


def _paired_score(row: Row, figure: str) -> Measured | None:
    value = row.get(figure)
    difference, low, high = (row.get(f"{figure}_difference{end}") for end in ("", "_low", "_high"))
    if value is None or row.is_reference:
        return None if value is None else Measured(value, value, value)
    if difference is None or low is None or high is None:
        return None
    before = value - difference
    return Measured(value, before + low, before + high)


def _with_error(row: Row, figure: str) -> Measured | None:
    value, error = row.get(figure), row.get(error_key(figure))
    if value is None or error is None:
        return None
    return Measured(value, value - _NORMAL * error, value + _NORMAL * error)


def _level(row: Row, figure: str, scale: float) -> Measured | None:
    value, low, high = (row.get(f"{figure}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return Measured(value * scale, None if low is None else low * scale, None if high is None else high * scale)


def _interval(row: Row, key: str) -> Measured | None:
    interval = row.interval(key)
    return None if interval is None else Measured(*interval)


def _quotient(value: Measured | None, before: Measured | None) -> Measured | None:
    """Return the quotient of two positive figures. Errors count as independent, which is wider for paired ones."""
    if value is None or before is None or min(*value.bounds, *before.bounds) <= 0:
        return None
    (value_low, value_high), (before_low, before_high) = value.bounds, before.bounds
    below = math.hypot(math.log(value.value / value_low), math.log(before_high / before.value))
    above = math.hypot(math.log(value_high / value.value), math.log(before.value / before_low))
    factor = value.value / before.value
    return Measured(factor, factor * math.exp(-below), factor * math.exp(above))
