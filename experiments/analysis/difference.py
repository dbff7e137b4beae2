"""What changed between two result folders: cells that came or went, and values whose intervals separate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.columns import COLUMNS, SPEEDS
from runtime_matrix.experiments.analysis.ranking import bounds
from runtime_matrix.experiments.records.metric import UNKNOWN, Metric
from runtime_matrix.experiments.records.row import Row


@dataclass(frozen=True)
class Change:
    cell: str
    column: str
    before: str
    after: str
    note: str
    is_real: bool  # intervals separate, or an exact value differs


def label(row: Row) -> str:
    return " · ".join((row.runtime, row.dtype, row.model, row.hw))


def difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[Change], list[str], list[str]]:
    """Return what changed in cells that both hold, and the labels of those that only one holds."""
    old, new = ({_key(row): row for row in rows} for rows in (before, after))
    changes = [change for key in old if key in new for change in _changes(old[key], new[key])]
    gone = [label(row) for key, row in old.items() if key not in new]
    come = [label(row) for key, row in new.items() if key not in old]
    return changes, gone, come


def lines(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Return the difference as text: what changed first, and what lies within the noise in one line."""
    changes, gone, come = difference(before, after)
    real = [change for change in changes if change.is_real]
    found = [f"{one.cell}: {one.column}: {one.before} → {one.after}{one.note}" for one in real]
    found += [f"only in the first: {name}" for name in gone] + [f"only in the second: {name}" for name in come]
    quiet = len(changes) - len(real)
    if not found:
        found = ["nothing changed beyond what the intervals leave open"]
    if quiet:
        found.append(f"{quiet} values differ within their intervals, or are of runs that were not interleaved")
    return found


def _key(row: Row) -> tuple[str, ...]:
    """A cell is the same where what it measures is: `config_hash`, or, in files without one, what the row says."""
    if row.config_hash:
        return (row.config_hash,)
    return row.runtime, row.dtype, row.model_digest, row.hw, str(row.threads)


def _changes(old: Row, new: Row) -> list[Change]:
    found = []
    for column in COLUMNS:
        before, after = column.show(old), column.show(new)
        if before != after:
            found.append(_change(column, old, new, before, after))
    return found


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
