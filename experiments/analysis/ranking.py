"""Ranks of rows by intervals: best of a column, tied with the best, dominated on the Pareto front.

Values are compared within a scope: speed within one run, memory on one machine, answers of one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.analysis.columns import SCORES, SPEEDS, STAND_INS, column_of
from runtime_matrix.experiments.records.metric import Metric, error_key
from runtime_matrix.experiments.records.row import Row

# Smaller relative differences come from the order of arithmetic or from padding, and are no reason to choose a cell.
NOTHING = 1e-4
PEAK = "peak_bytes"  # the peak under a row's `memory_key`, as a key of `bounds`, `scope` and `pareto`
_NAMED = 2  # number of dominating rows that are named
_Z = 1.959964  # the normal distribution's two-sided 95 %
Bounds = tuple[float, float, float]  # low, value, high


def memory_key(row: Row) -> str:
    """Return the key of the peak memory that a row is judged by: on the device if there is one, else on the host."""
    return "peak_device_bytes" if row.get("peak_device_bytes") else "peak_host_bytes"


def bounds(row: Row, key: str, is_paired: bool = True) -> Bounds | None:
    """Return a value with its 95 % interval; None if the value is unknown or has no interval.

    `is_paired`: take the interval of a score's difference to the reference on the same items, without sampling error.
    """
    if key == PEAK:
        return bounds(row, memory_key(row))
    value = row.get(key)
    if key in STAND_INS:  # judged only in place of the other column, to which it is then equal
        return bounds(row, STAND_INS[key], is_paired) if value == row.get(STAND_INS[key]) else None
    if key in SPEEDS:
        if value is None:
            return (1.0, 1.0, 1.0) if row.is_reference and row.status == "ok" else None
        return _ends(row, key)
    if value is None:
        return None
    column = column_of(key)
    if column is not None and column.noise_ratio is not None:
        room = max(column.noise_ratio * value, column.noise_floor)
        return value - room, value, value + room
    if column is None or not column.error:
        return None
    return (_paired(row, key, value) if is_paired else None) or _alone(value, row.get(error_key(key)))


def _paired(row: Row, key: str, value: float) -> Bounds | None:
    if row.is_reference:
        return value, value, value
    if key in SCORES and SCORES[key].kind.is_ratio:
        ratio, low, high = (row.get(f"{key}_ratio{end}") for end in ("", "_low", "_high"))
        return (value * low / ratio, value, value * high / ratio) if ratio and low and high else None
    difference = row.interval(f"{key}_difference")
    if difference is None:
        return None
    middle, lower, upper = difference
    return value - middle + lower, value, value - middle + upper


def _ends(row: Row, key: str) -> Bounds | None:
    interval = row.interval(key)
    return None if interval is None else (interval[1], interval[0], interval[2])


def _alone(value: float, error: float | None) -> Bounds | None:
    return None if error is None else (value - _Z * error, value, value + _Z * error)


def scope(row: Row, key: str) -> tuple[str, ...]:
    """Return the scope of a value: two rows are comparable if theirs are equal."""
    if key in SPEEDS:
        return (row.run_id, row.model_digest)
    if key == PEAK:
        return scope(row, memory_key(row))
    column = column_of(key)
    if column is not None and column.is_of_machine:
        return (row.model_digest, row.machine)
    return (row.model_digest,)


def mark_best(rows: Sequence[Row], columns: Sequence[Metric]) -> dict[tuple[str, str], str]:
    """Return "best" or "tied" by (record_id, column key), if at least two comparable rows have a value."""
    marks: dict[tuple[str, str], str] = {}
    for column in (column for column in columns if column.better):
        scopes: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            if row.status == "ok":
                scopes.setdefault(scope(row, column.key), []).append(row)
        for scope_rows in scopes.values():
            is_paired = share_reference(scope_rows)
            pairs = [(row.record_id, bounds(row, column.key, is_paired)) for row in scope_rows]
            known = [(name, ends) for name, ends in pairs if ends is not None]
            if len(known) > 1:
                marks |= {(name, column.key): mark for name, mark in _marks(known, column.better == "high").items()}
    return marks


def share_reference(rows: Sequence[Row]) -> bool:
    """Return whether all rows were compared with the same record."""
    return len({row.record_id if row.is_reference else row.against for row in rows}) == 1


def _marks(known: Sequence[tuple[str, Bounds]], is_high_better: bool) -> dict[str, str]:
    pick = max if is_high_better else min
    _, best = pick(known, key=lambda pair: pair[1][1])
    room = NOTHING * abs(best[1])
    tied = [
        name for name, (low, _, high) in known if (high >= best[0] - room if is_high_better else low <= best[2] + room)
    ]
    if len(tied) == len(known):
        return {}  # all are tied
    return dict.fromkeys(tied, "best" if len(tied) == 1 else "tied")


@dataclass(frozen=True)
class Front:
    """The dominance of rows on some axes; `axes` has a key and "high" or "low" for each."""

    axes: tuple[tuple[str, str], ...]
    record_ids: list[str]
    dominated_by: list[list[str]]  # at most two, those on the front first; empty: the row is on the front
    missing: dict[str, str]  # record ids that are not judged, with the reason


def pareto(rows: Sequence[Row], axes: Sequence[tuple[str, str]]) -> Front:
    """Return the Pareto front among rows that were timed together.

    A row is dominated if another row is significantly better on one axis and not significantly worse on the rest.
    """
    judged, missing = [], {}
    for row in rows:
        missing_keys = [key for key, _ in axes if bounds(row, key) is None]
        if missing_keys:
            missing[row.record_id] = f"no {', '.join(missing_keys)}" if row.status == "ok" else row.status
        else:
            judged.append(row)
    dominated: list[list[str]] = [[] for _ in judged]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(judged):
        groups.setdefault(scope(row, SPEEDS[0]), []).append(index)
    for members in groups.values():
        group = [judged[index] for index in members]
        is_dominating = _dominates(group, axes, share_reference(group))
        on_front = np.asarray(~is_dominating.any(axis=0))
        for place, index in enumerate(members):
            dominating_places = np.flatnonzero(is_dominating[:, place])
            named = dominating_places[np.argsort(~on_front[dominating_places], kind="stable")][:_NAMED]
            dominated[index] = [group[dominating].record_id for dominating in named]
    return Front(tuple(axes), [row.record_id for row in judged], dominated, missing)


def _dominates(rows: Sequence[Row], axes: Sequence[tuple[str, str]], is_paired: bool) -> NDArray[np.bool_]:
    """Return a square matrix of booleans: [i, j] is true if row i dominates row j."""
    better = np.zeros((len(axes), len(rows), len(rows)), dtype=bool)
    for axis, (key, direction) in enumerate(axes):
        ends = [bounds(row, key, is_paired) or (np.nan, np.nan, np.nan) for row in rows]
        low, high = np.array([interval[0] for interval in ends]), np.array([interval[2] for interval in ends])
        room = NOTHING * np.abs(np.array([interval[1] for interval in ends]))[None, :]
        is_higher, is_lower = low[:, None] > high[None, :] + room, high[:, None] < low[None, :] - room
        better[axis] = is_higher if direction == "high" else is_lower
    somewhere = np.asarray(better.any(axis=0))
    return np.logical_and(somewhere, ~somewhere.T)
