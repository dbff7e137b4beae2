"""Where a row stands among others: best of a column, tied with the best, dominated. Only where intervals separate.

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

# What differs by less than this share is arithmetic in another order, or padding: nobody can choose by it.
NOTHING = 1e-4
# Half of what two peaks must differ by. Repeats of a cell lay within 0.4 % in one sweep and 3 % between sweeps, and
# some small ones 16 MiB apart: 58, 58, 59 and 74 MiB in four sweeps of `eager`, as a library's buffers come and go.
PEAK_NOISE, PEAK_NOISE_BYTES = 0.02, 8 * 2**20
_NAMED = 2  # of those who dominate a row: whom to take instead
_Z = 1.959964  # the normal distribution's two-sided 95 %
Bounds = tuple[float, float, float]  # low, value, high


def bounds(row: Row, key: str, is_paired: bool = True) -> Bounds | None:
    """Return a value with its 95 % interval; None where the value is unknown or has no interval to be judged by.

    `is_paired`: scores are seen from the reference, on the same items, so that the error of sampling these falls away.
    """
    value = row.get(key)
    if key in STAND_INS:  # judged where it takes the other's place, from which it then differs in no row
        return bounds(row, STAND_INS[key], is_paired) if value == row.get(STAND_INS[key]) else None
    if key in SPEEDS:
        if value is None:
            return (1.0, 1.0, 1.0) if row.is_reference and row.status == "ok" else None
        return _ends(row, key)
    if value is None:
        return None
    if key == "weight_bytes":
        return value, value, value
    if key in ("peak_host_bytes", "peak_device_bytes"):
        room = max(PEAK_NOISE * value, PEAK_NOISE_BYTES if key == "peak_host_bytes" else 0)
        return value - room, value, value + room
    column = column_of(key)
    if column is None or not column.error:
        return None
    return (_paired(row, key, value) if is_paired else None) or _alone(value, row.get(error_key(key)))


def _paired(row: Row, key: str, value: float) -> Bounds | None:
    if row.is_reference:
        return value, value, value
    if key in SCORES and SCORES[key].kind == "perplexity":
        ratio, low, high = (row.get(f"{key}_ratio{end}") for end in ("", "_low", "_high"))
        return (value * low / ratio, value, value * high / ratio) if ratio and low and high else None
    difference = row.interval(f"{key}_difference")
    if difference is None:
        return None
    middle, lower, upper = difference
    return value - middle + lower, value, value - middle + upper


def _ends(row: Row, key: str) -> Bounds | None:
    found = row.interval(key)
    return None if found is None else (found[1], found[0], found[2])


def _alone(value: float, error: float | None) -> Bounds | None:
    return None if error is None else (value - _Z * error, value, value + _Z * error)


def scope(row: Row, key: str) -> tuple[str, ...]:
    """Return what two rows must share for their values to be comparable."""
    if key in SPEEDS:
        return (row.run_id, row.model_digest)
    if key in ("peak_host_bytes", "peak_device_bytes"):
        return (row.model_digest, row.machine)
    return (row.model_digest,)


def mark_best(found: Sequence[Row], columns: Sequence[Metric]) -> dict[tuple[str, str], str]:
    """Return "best" or "tied" by (record_id, column's key), where at least two comparable rows have a value."""
    marks: dict[tuple[str, str], str] = {}
    for column in (one for one in columns if one.better):
        scopes: dict[tuple[str, ...], list[Row]] = {}
        for row in found:
            if row.status == "ok":
                scopes.setdefault(scope(row, column.key), []).append(row)
        for rows in scopes.values():
            is_paired = share_reference(rows)
            pairs = [(row.record_id, bounds(row, column.key, is_paired)) for row in rows]
            known = [(name, one) for name, one in pairs if one is not None]
            if len(known) > 1:
                marks |= {(name, column.key): mark for name, mark in _marks(known, column.better == "high").items()}
    return marks


def share_reference(rows: Sequence[Row]) -> bool:
    """Say whether all were compared with one and the same record."""
    return len({row.record_id if row.is_reference else row.against for row in rows}) == 1


def _marks(known: Sequence[tuple[str, Bounds]], is_high_better: bool) -> dict[str, str]:
    pick = max if is_high_better else min
    _, best = pick(known, key=lambda pair: pair[1][1])
    room = NOTHING * abs(best[1])
    tied = [
        name for name, (low, _, high) in known if (high >= best[0] - room if is_high_better else low <= best[2] + room)
    ]
    if len(tied) == len(known):
        return {}  # nothing tells them apart
    return dict.fromkeys(tied, "best" if len(tied) == 1 else "tied")


@dataclass(frozen=True)
class Front:
    """Who dominates whom on some axes; `axes` has a key and which way is better for each."""

    axes: tuple[tuple[str, str], ...]
    record_ids: list[str]
    dominated_by: list[list[str]]  # at most two, those on the front first; empty: on the front itself
    missing: dict[str, str]  # record ids that are not judged, with the reason


def pareto(found: Sequence[Row], axes: Sequence[tuple[str, str]]) -> Front:
    """Return the front of rows that were timed together.

    A row is dominated by one that is better on an axis, their intervals apart, and worse on none with intervals apart.
    """
    rows, missing = [], {}
    for row in found:
        lacking = [key for key, _ in axes if bounds(row, key) is None]
        if lacking:
            missing[row.record_id] = f"no {', '.join(lacking)}" if row.status == "ok" else row.status
        else:
            rows.append(row)
    dominated: list[list[str]] = [[] for _ in rows]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(scope(row, SPEEDS[0]), []).append(index)
    for members in groups.values():
        group = [rows[index] for index in members]
        square = _dominates(group, axes, share_reference(group))
        on_front = np.asarray(~square.any(axis=0))
        for place, index in enumerate(members):
            by = np.flatnonzero(square[:, place])
            first = by[np.argsort(~on_front[by], kind="stable")][:_NAMED]
            dominated[index] = [group[one].record_id for one in first]
    return Front(tuple(axes), [row.record_id for row in rows], dominated, missing)


def _dominates(rows: Sequence[Row], axes: Sequence[tuple[str, str]], is_paired: bool) -> NDArray[np.bool_]:
    """Return a square of booleans: [i, j] says that i dominates j."""
    better = np.zeros((len(axes), len(rows), len(rows)), dtype=bool)
    for axis, (key, direction) in enumerate(axes):
        found = [bounds(row, key, is_paired) or (np.nan, np.nan, np.nan) for row in rows]
        low, high = np.array([one[0] for one in found]), np.array([one[2] for one in found])
        room = NOTHING * np.abs(np.array([one[1] for one in found]))[None, :]
        is_higher, is_lower = low[:, None] > high[None, :] + room, high[:, None] < low[None, :] - room
        better[axis] = is_higher if direction == "high" else is_lower
    somewhere = np.asarray(better.any(axis=0))
    return np.logical_and(somewhere, ~somewhere.T)
