"""Differences between two matrices: added and removed cells, and values whose intervals do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.columns import SPEEDS, with_further
from runtime_matrix.experiments.analysis.ranking import bounds
from runtime_matrix.experiments.records.metric import UNKNOWN, Metric
from runtime_matrix.experiments.records.row import Row


@dataclass(frozen=True)
class Change:
    """A value that differs between two matrices, as shown in both."""

    cell: str
    column: str
    before: str
    after: str
    note: str
    is_real: bool  # the intervals do not overlap, or an exact value differs


def label(row: Row) -> str:
    """Return a cell's name: runtime, dtype, model and hardware profile."""
    return " · ".join((row.runtime, row.dtype, row.model, row.hw))


def difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[Change], list[str], list[str]]:
    """Return the changes in cells of both matrices, then the labels of removed and of added cells."""
    old, new = ({_key(row): row for row in rows} for rows in (before, after))
    changes = [change for key in old if key in new for change in _changes(old[key], new[key])]
    removed = [label(row) for key, row in old.items() if key not in new]
    added = [label(row) for key, row in new.items() if key not in old]
    return changes, removed, added


def lines(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Return the differences as text; changes within the noise are one line at the end."""
    changes, removed, added = difference(before, after)
    real = [change for change in changes if change.is_real]
    lines = [f"{change.cell}: {change.column}: {change.before} → {change.after}{change.note}" for change in real]
    lines += [f"only in the first: {name}" for name in removed] + [f"only in the second: {name}" for name in added]
    noise_count = len(changes) - len(real)
    if not lines:
        lines = ["no change beyond the intervals"]
    if noise_count:
        lines.append(f"{noise_count} values differ within their intervals, or are of runs that were not interleaved")
    return lines


def _key(row: Row) -> tuple[str, ...]:
    """Return the identity of a cell: `config_hash`, or in older files the facts of the row."""
    if row.config_hash:
        return (row.config_hash,)
    return row.runtime, row.dtype, row.model_digest, row.hw, str(row.threads)


def _changes(old: Row, new: Row) -> list[Change]:
    changes = []
    for column in with_further([old, new]):
        before, after = column.show(old), column.show(new)
        if before != after:
            changes.append(_change(column, old, new, before, after))
    return changes


def _change(column: Metric, old: Row, new: Row, before: str, after: str) -> Change:
    is_known = UNKNOWN not in (before, after)
    if column.group == "cell" or not is_known:
        return Change(label(new), column.header, before, after, "", True)
    ends = [bounds(row, column.key, is_paired=False) for row in (old, new)]
    if ends[0] is None or ends[1] is None:
        return Change(label(new), column.header, before, after, "", False)
    is_apart = ends[0][2] < ends[1][0] or ends[1][2] < ends[0][0]
    if not is_apart or not column.better:
        return Change(label(new), column.header, before, after, "", is_apart)
    is_up = ends[1][1] > ends[0][1]
    note = " (better)" if is_up == (column.better == "high") else " (worse)"
    if column.key in SPEEDS:
        note += ", each against its own run's reference"
    return Change(label(new), column.header, before, after, note, True)
