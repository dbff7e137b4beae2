"""What the scripts of the page read: rows, columns, marks, intervals, Pareto fronts, cells and trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from runtime_matrix.experiments.advice.kept import kept
from runtime_matrix.experiments.records.schema import Row
from runtime_matrix.experiments.views.columns import Column
from runtime_matrix.experiments.views.detail import Detail
from runtime_matrix.experiments.views.standing import ANSWERS, SPEEDS, bounds, pareto
from runtime_matrix.experiments.views.trends import FEWEST, METRICS, Series

Value = str | float | bool | None
_AXIS_LABELS = {
    "speedup_ratio": "decode speedup",
    "prefill_speedup_ratio": "prefill speedup",
    "request_speedup_ratio": "request speedup",
    "throughput_speedup_ratio": "batch speedup",
    "long_speedup_ratio": "long decode speedup",
    "cpu_speedup_ratio": "CPU speedup, one thread",
    "cpu_prefill_speedup_ratio": "CPU prefill speedup, one thread",
    "mcq_accuracy": "choice accuracy",
    "perplexity": "perplexity",
    "code_pass_at_1": "code pass@1",
    "qa_f1": "QA F1",
    "rouge_l": "ROUGE-L",
}
STAND_IN = {"qa_f1": "qa_exact_match"}  # its column, where the two are the same in every row


class PageColumn(Struct, frozen=True, kw_only=True):
    """A column as the scripts know it; see `Column`."""

    key: str
    title: str
    unit: str
    group: str
    benchmark: str
    about: str
    rank: int


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


def page_data(
    found: Sequence[Row],
    columns: Sequence[Column],
    marks: Mapping[tuple[str, str], str],
    cells: Mapping[str, Detail],
    series: Sequence[Series],
) -> PageData:
    """Return what the scripts read of these rows; `cells` are what is shown when a cell is opened."""
    flat = [row.flat() for row in found]
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
            )
            for column in columns
        ],
        keys=keys,
        rows=[[_short(values.get(key)) for key in keys] for values in flat],
        marks=[(record_id, key, mark) for (record_id, key), mark in marks.items()],
        bounds={row.record_id: _bounds(row) for row in found},
        kept={row.record_id: _kept(row) for row in found if row.status == "ok"},
        fronts={f"{x}|{y}": _front(found, x, y) for x in SPEEDS for y in ANSWERS if x in keys and y in keys},
        metrics=METRICS,
        axes=axis_labels(columns),
        cells=dict(cells),
        trends=list(series),
        fewest=FEWEST,
    )


def _kept(row: Row) -> float | None:
    share = kept(row)
    return None if share is None else _short_float(share)


def _bounds(row: Row) -> dict[str, list[float]]:
    found = {key: bounds(row, key) for key in (*SPEEDS, *ANSWERS)}
    return {key: [_short_float(end) for end in ends] for key, ends in found.items() if ends}


def _front(found: Sequence[Row], x: str, y: str) -> PageFront:
    front = pareto(found, [(x, "high"), (y, "low" if y == "perplexity" else "high"), ("peak_host_bytes", "low")])
    return PageFront(dominated=dict(zip(front.record_ids, front.dominated_by, strict=True)), missing=front.missing)


def axis_labels(columns: Sequence[Column]) -> dict[str, str]:
    """Return what the axes of the Pareto front are called."""
    titles = {column.key: column.title for column in columns}
    stand_ins = {key: titles[other] for key, other in STAND_IN.items() if key not in titles and other in titles}
    return _AXIS_LABELS | stand_ins


def _short(value: Value) -> Value:
    """Return a value with six digits; counts and bytes stay whole."""
    return _short_float(value) if isinstance(value, float) and not value.is_integer() else value


def _short_float(value: float) -> float:
    return float(f"{value:.6g}")
