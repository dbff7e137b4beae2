"""Trends: the same cell over commits and dates on one machine, and its changes of level.

A change of level is the split with the largest t (Worsley 1979). It is tested against simulated autocorrelated series
without a change; each side is then split again in the same way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from runtime_matrix.experiments.analysis.columns import COLUMNS
from runtime_matrix.experiments.records.row import Row

# Points before and after a change: with fewer, three equal outliers of eight look like a change.
_SEGMENT, FEWEST = 4, 8
# A series without a change is flagged in 0.5 % of cases if its lag-1 autocorrelation is 0.5, and in fewer below that.
# Runs that were not interleaved can have more on a shared machine: 0.8 gives 2 to 15 %, so they are not tested.
_LAG_1, _LEVEL, _DRAWS = 0.5, 0.995, 4000
_SERIES = 60  # series on a page, those with most points
_DRAWN = sorted((column for column in COLUMNS if column.trend), key=lambda column: column.smallest_step is None)
# The smallest step that matters, for the tested metrics: interleaved ratios and answers.
SMALLEST = {column.key: column.smallest_step for column in _DRAWN if column.smallest_step is not None}


class Axis(Struct, frozen=True, kw_only=True):
    """The axis on which a metric's values are drawn."""

    title: str
    unit: str
    factor: float  # from the row's seconds, bytes or share to `unit`


# The units of columns that differ from those of their rows.
_FACTORS = {"ms": 1e3, "MiB": 1 / 2**20}
METRICS = {
    column.key: Axis(title=column.trend, unit=column.unit, factor=_FACTORS.get(column.unit, 1.0)) for column in _DRAWN
}


class MetricTrend(Struct, frozen=True, kw_only=True):
    """One metric of a cell over its records, oldest first."""

    values: list[float | None]
    ends: list[tuple[float | None, float | None]] | None  # intervals of the values, if rows have them
    changes: list[int]  # indices of `values` at which a new level begins
    steps: list[float]  # each level over the one before it
    is_tested: bool  # for changes of level


class Series(Struct, frozen=True, kw_only=True):
    """A cell that was measured more than once on one machine."""

    cell: str
    hash: str
    processor: str | None
    at: list[str]  # start time of each record
    commit: list[str]
    metrics: dict[str, MetricTrend]


def trends(rows: Sequence[Row]) -> list[Series]:
    """Return one series per cell with several records. `rows`: one per record, oldest first."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.status == "ok":
            cells.setdefault((row.config_hash, row.machine), []).append(row)
    repeated = sorted((cell_rows for cell_rows in cells.values() if len(cell_rows) > 1), key=len, reverse=True)
    series = [_series(cell_rows) for cell_rows in repeated[:_SERIES]]
    names = Counter(cell_series.cell for cell_series in series)
    return [_with_hash(cell_series) if names[cell_series.cell] > 1 else cell_series for cell_series in series]


def _with_hash(series: Series) -> Series:
    """Return the series with a part of its hash in its name, as another cell has the same name."""
    return replace(series, cell=f"{series.cell} · {series.hash[:6]}")


def change_points(values: Sequence[float], smallest: float = 1e-6) -> list[int]:
    """Return the indices at which a new level begins. The values must be positive; fewer than 8 have no change.

    `smallest`: the relative difference that two levels must have.
    """
    if len(values) < FEWEST:
        return []
    logs = np.log(np.asarray(values, dtype=float))
    (largest,), (place,) = _largest_t(logs[None, :])
    before, after = values[:place], values[place:]
    step = float(np.median(after)) / float(np.median(before))
    if largest <= _critical(len(values)) or abs(math.log(step)) < math.log1p(smallest):
        return []
    later = [int(place) + index for index in change_points(after, smallest)]
    return [*change_points(before, smallest), int(place), *later]


def _largest_t(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each row of `logs` the largest t of a difference in means over all splits, and its split."""
    n = logs.shape[1]
    place = np.arange(_SEGMENT, n - _SEGMENT + 1)
    sums = np.cumsum(logs - logs.mean(axis=1, keepdims=True), axis=1)[:, place - 1]
    between = sums**2 * n / (place * (n - place))  # the centred sums after a split are those before it, negated
    within = np.maximum(logs.var(axis=1, keepdims=True) * n - between, 1e-18)  # exact values leave rounding only
    t = np.sqrt(between * (n - 2) / within)
    best = t.argmax(axis=1)
    return t[np.arange(len(t)), best], place[best]


@lru_cache
def _critical(n: int) -> float:
    """Return the 99.5 % quantile of the largest t for autocorrelated series of length n without a change."""
    drawn = np.random.default_rng(0).standard_normal((_DRAWS, n))
    for index in range(1, n):
        drawn[:, index] = _LAG_1 * drawn[:, index - 1] + math.sqrt(1 - _LAG_1**2) * drawn[:, index]
    return float(np.quantile(_largest_t(drawn)[0], _LEVEL))


def _series(rows: Sequence[Row]) -> Series:
    last = rows[-1]
    return Series(
        cell=f"{last.runtime} · {last.model} · {last.hw}",
        hash=last.config_hash,
        processor=last.processor,
        at=[row.started_at for row in rows],
        commit=[(row.commit or "")[:7] for row in rows],
        metrics={key: metric for key in METRICS if (metric := _metric(rows, key))},
    )


def _metric(rows: Sequence[Row], key: str) -> MetricTrend | None:
    """Return the values with change points as indices among all values; None for fewer than two values.

    Change points are sought in interleaved ratios and in answers only: other times and peaks drift with the machine.
    """
    values = [row.get(key) for row in rows]
    known = {index: value for index, value in enumerate(values) if value is not None and value > 0}
    if len(known) < 2:
        return None
    places, levels = list(known), list(known.values())
    changes = change_points(levels, SMALLEST[key]) if key in SMALLEST else []
    ends = [(_short(row.get(f"{key}_low")), _short(row.get(f"{key}_high"))) for row in rows]
    return MetricTrend(
        values=[_short(value) for value in values],
        ends=ends if any(low is not None for low, _ in ends) else None,
        changes=[places[index] for index in changes],
        steps=_steps(levels, changes),
        is_tested=key in SMALLEST,
    )


def _steps(known: Sequence[float], changes: Sequence[int]) -> list[float]:
    """Return each level over the one before it, by their medians."""
    edges = [0, *changes, len(known)]
    levels = [float(np.median(known[start:end])) for start, end in pairwise(edges)]
    return [float(f"{after / before:.4g}") for before, after in pairwise(levels)]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
