"""The data of the page's scripts: rows, columns, marks, intervals, Pareto fronts, cells and trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from runtime_matrix.experiments.advice.kept import kept
from runtime_matrix.experiments.analysis.columns import COLUMNS, PAGE, SCORES, SPEEDS, STAND_INS, higher_is_better
from runtime_matrix.experiments.analysis.ranking import PEAK, bounds, memory_key, pareto
from runtime_matrix.experiments.analysis.trends import FEWEST, METRICS, Axis, Series
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import FAILED_TIMING
from runtime_matrix.experiments.reports.detail import Detail
from runtime_matrix.experiments.tasks.registry import scores

Value = str | float | bool | None


class PageColumn(Struct, frozen=True, kw_only=True):
    """A column of the table; see `Metric`."""

    key: str
    title: str
    unit: str
    group: str
    benchmark: str
    about: str
    rank: int
    is_judged: bool  # its best cells are marked, unless intervals overlap
    items_of: str  # the benchmark that it is the score of
    is_low_better: bool


class PageFront(Struct, frozen=True, kw_only=True):
    """A Pareto front by record id; see `Front`."""

    dominated: dict[str, list[str]]
    missing: dict[str, str]


class PageData(Struct, frozen=True, kw_only=True):
    """The JSON that is embedded in the page."""

    columns: list[PageColumn]
    page_rank: int  # columns up to this rank are shown at first
    keys: list[str]  # of the values in each row
    rows: list[list[Value]]
    marks: list[tuple[str, str, str]]  # record, column, "best" or "tied"
    bounds: dict[str, dict[str, list[float]]]  # by record and key: low, value, high
    kept: dict[str, float | None]  # by record
    peaks: dict[str, float | None]  # by record: the peak memory that the cell is judged by, bytes
    fronts: dict[str, PageFront]  # by both axes: "speedup_ratio|mcq_accuracy"
    metrics: dict[str, Axis]  # of trends, by key
    axes: dict[str, str]
    cells: dict[str, Detail]  # by record
    trends: list[Series]
    fewest: int
    alarms: list[str]  # statuses of failed timing


def page_data(
    rows: Sequence[Row],
    columns: Sequence[Metric],
    marks: Mapping[tuple[str, str], str],
    cells: Mapping[str, Detail],
    series: Sequence[Series],
) -> PageData:
    """Return the page's data. `marks`: by record id and column key; `cells`: details by record id."""
    flat_rows = [row.flat() for row in rows]
    judged = {*SCORES, *STAND_INS, *(column.key for column in columns if column.group == "speed" and column.better)}
    items_of = {score.metric: name for name, score in scores().items()}
    keys = [key for key in flat_rows[0] if any(values.get(key) is not None for values in flat_rows)]
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
        page_rank=PAGE,
        keys=keys,
        rows=[[_short(values.get(key)) for key in keys] for values in flat_rows],
        marks=[(record_id, key, mark) for (record_id, key), mark in marks.items()],
        bounds={row.record_id: _bounds(row) for row in rows},
        kept={row.record_id: _kept(row) for row in rows if row.status == "ok"},
        peaks={row.record_id: row.get(memory_key(row)) for row in rows},
        fronts={f"{x}|{y}": _front(rows, x, y) for x in SPEEDS for y in SCORES if x in keys and y in keys},
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
    bounds_of = {key: bounds(row, key) for key in (*SPEEDS, *SCORES)}
    return {key: [_short_float(end) for end in ends] for key, ends in bounds_of.items() if ends}


def _front(rows: Sequence[Row], x: str, y: str) -> PageFront:
    front = pareto(rows, [(x, "high"), (y, "high" if higher_is_better(y) else "low"), (PEAK, "low")])
    return PageFront(dominated=dict(zip(front.record_ids, front.dominated_by, strict=True)), missing=front.missing)


def axis_labels(columns: Sequence[Metric]) -> dict[str, str]:
    """Return the labels of the Pareto axes by key; a score whose stand-in is shown gets the stand-in's label."""
    shown = {column.key: column.header for column in columns}
    labels = {column.key: column.header for column in COLUMNS if column.key in (*SPEEDS, *SCORES)}
    return labels | {key: shown[other] for other, key in STAND_INS.items() if key not in shown and other in shown}


def _short(value: Value) -> Value:
    """Round floats to six digits; counts and bytes stay whole."""
    return _short_float(value) if isinstance(value, float) and not value.is_integer() else value


def _short_float(value: float) -> float:
    return float(f"{value:.6g}")
