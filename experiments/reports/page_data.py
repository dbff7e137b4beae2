"""What the scripts of the page read: rows, columns, marks, intervals, Pareto fronts, cells and trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from runtime_matrix.experiments.advice.kept import kept
from runtime_matrix.experiments.analysis.columns import COLUMNS, SCORES, SPEEDS, STAND_INS, higher_is_better
from runtime_matrix.experiments.analysis.ranking import bounds, pareto
from runtime_matrix.experiments.analysis.trends import FEWEST, METRICS, Series
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import FAILED_TIMING
from runtime_matrix.experiments.reports.detail import Detail
from runtime_matrix.experiments.tasks.registry import scores

Value = str | float | bool | None


class PageColumn(Struct, frozen=True, kw_only=True):
    """A column as the scripts know it; see `Metric`."""

    key: str
    title: str
    unit: str
    group: str
    benchmark: str
    about: str
    rank: int
    is_judged: bool  # something in it is best, unless nothing tells its cells apart
    items_of: str  # the benchmark whose items it is the score of
    is_low_better: bool


class PageFront(Struct, frozen=True, kw_only=True):
    """A Pareto front, by record; see `Front`."""

    dominated: dict[str, list[str]]
    missing: dict[str, str]


class PageData(Struct, frozen=True, kw_only=True):
    """What the scripts of the page read."""

    columns: list[PageColumn]
    keys: list[str]  # of the values in a row
    rows: list[list[Value]]
    marks: list[tuple[str, str, str]]  # record, column, "best" or "tied"
    bounds: dict[str, dict[str, list[float]]]  # by record and key: low, value, high
    kept: dict[str, float | None]  # by record
    fronts: dict[str, PageFront]  # by both axes: "speedup_ratio|mcq_accuracy"
    metrics: dict[str, str]
    axes: dict[str, str]
    cells: dict[str, Detail]  # by record
    trends: list[Series]
    fewest: int
    alarms: list[str]  # statuses of timed work that was not what was asked for


def page_data(
    found: Sequence[Row],
    columns: Sequence[Metric],
    marks: Mapping[tuple[str, str], str],
    cells: Mapping[str, Detail],
    series: Sequence[Series],
) -> PageData:
    """Return what the scripts read of these rows; `cells` are what is shown when a cell is opened."""
    flat = [row.flat() for row in found]
    judged = {*SCORES, *STAND_INS, *(column.key for column in columns if column.group == "speed" and column.better)}
    items_of = {score.metric: name for name, score in scores().items()}
    keys = [key for key in flat[0] if any(values.get(key) is not None for values in flat)]
    return PageData(
        columns=[
            PageColumn(
                key=column.key,
                title=column.title,
                unit=column.unit,
                group=column.group,
                benchmark=column.benchmark,
                about=column.about,
                rank=column.rank,
                is_judged=column.key in judged,
                items_of=items_of.get(column.key, ""),
                is_low_better=column.better == "low",
            )
            for column in columns
        ],
        keys=keys,
        rows=[[_short(values.get(key)) for key in keys] for values in flat],
        marks=[(record_id, key, mark) for (record_id, key), mark in marks.items()],
        bounds={row.record_id: _bounds(row) for row in found},
        kept={row.record_id: _kept(row) for row in found if row.status == "ok"},
        fronts={f"{x}|{y}": _front(found, x, y) for x in SPEEDS for y in SCORES if x in keys and y in keys},
        metrics=METRICS,
        axes=axis_labels(columns),
        cells=dict(cells),
        trends=list(series),
        fewest=FEWEST,
        alarms=list(FAILED_TIMING),
    )


def _kept(row: Row) -> float | None:
    share = kept(row)
    return None if share is None else _short_float(share)


def _bounds(row: Row) -> dict[str, list[float]]:
    found = {key: bounds(row, key) for key in (*SPEEDS, *SCORES)}
    return {key: [_short_float(end) for end in ends] for key, ends in found.items() if ends}


def _front(found: Sequence[Row], x: str, y: str) -> PageFront:
    front = pareto(found, [(x, "high"), (y, "high" if higher_is_better(y) else "low"), ("peak_host_bytes", "low")])
    return PageFront(dominated=dict(zip(front.record_ids, front.dominated_by, strict=True)), missing=front.missing)


def axis_labels(columns: Sequence[Metric]) -> dict[str, str]:
    """Return what the axes of the Pareto front are called: a score's stand-in, where it is shown instead."""
    shown = {column.key: column.header for column in columns}
    labels = {column.key: column.header for column in COLUMNS if column.key in (*SPEEDS, *SCORES)}
    return labels | {key: shown[other] for other, key in STAND_INS.items() if key not in shown and other in shown}


def _short(value: Value) -> Value:
    """Return a value with six digits; counts and bytes stay whole."""
    return _short_float(value) if isinstance(value, float) and not value.is_integer() else value


def _short_float(value: float) -> float:
    return float(f"{value:.6g}")
