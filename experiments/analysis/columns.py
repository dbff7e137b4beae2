"""The columns of the matrix in their order: facts of a cell, then all registered and computed metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from runtime_matrix.experiments.analysis import costs, rates, sharded, speed_row, without_adapter
from runtime_matrix.experiments.records.metric import AT, GROUPS, UNKNOWN, Display, Metric, number
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import FAILED_TIMING
from runtime_matrix.experiments.tasks.registry import further_metric, scores, task_metrics

PAGE = 4  # the highest rank that a narrow view shows


def _fact(key: str, title: str, rank: int, display: Display, about: str) -> Metric:
    return Metric(key=key, title=title, group="cell", rank=rank, display=display, about=about, is_number=False)


_CELL = (
    _fact(
        *("runtime", "runtime", 0, lambda row, key: row.runtime + (" *" if row.is_reference else "")),
        "Engine over weights in a placement; * the reference of the comparison.",
    ),
    _fact(
        *("dtype", "dtype", 8, lambda row, key: row.dtype + (" (emulated)" if row.dtype_note else "")),
        "Data type of the computation.",
    ),
    _fact(
        *("variant", "options", 0, lambda row, key: row.variant or UNKNOWN),
        "Options that distinguish the row from others of the same runtime, model and hardware.",
    ),
    _fact("adapter", "adapter", 0, lambda row, key: row.adapter or UNKNOWN, "The LoRA adapter over the model."),
    _fact("model", "model", 6, lambda row, key: row.model, "The model, which all cells of a run share."),
    _fact(
        *("hw", "hw", 9, lambda row, key: f"{row.hw}, {row.threads} threads"),
        "The hardware profile and the number of threads.",
    ),
    _fact("status", "status", 2, lambda row, key: row.status, "Outcome of the cell."),
    _fact(
        *("audit", "audit", 7, lambda row, key: (row.audit or UNKNOWN).replace("_", " ")),
        "Whether the timed work is the requested work: six checks. The cell's details have what each found.",
    ),
)
_SAME_TEXTS = (
    Metric(
        key="output_match_rate",
        title="same texts",
        group="agreement",
        rank=4,
        display=number("{:.1f} %", 100),
        about="Share of generated texts that equal the reference's, over all benchmarks.",
    ),
)
_OF_SEVERAL = (
    Metric(
        key="calibration_overlap_ratio",
        title="in calibration",
        rank=8,
        is_warning=True,
        display=number("{:.1f} %", 100),
        about="Test items that share 13 words or a sentence with the calibration text, in the benchmark with the most.",
    ),
    Metric(
        key="training_overlap_ratio",
        title="in training",
        rank=8,
        is_warning=True,
        display=number("{:.1f} %", 100),
        about="Test items that share 13 words or a sentence with the training text, where that is known.",
    ),
    Metric(
        key="replay_same_top_ratio",
        title="replayed same",
        group="agreement",
        rank=8,
        display=number("{:.1f} %", 100),
        about="Timed tokens that are also the reference's choice.",
    ),
)


def _all() -> list[Metric]:
    of_tasks = [metric for metric in task_metrics() if metric.title]
    shared = [
        *costs.METRICS,
        *rates.METRICS,
        *sharded.METRICS,
        *_SAME_TEXTS,
        *of_tasks,
        *without_adapter.METRICS,
        *speed_row.METRICS,
    ]
    metrics = [*_CELL, *shared, *_OF_SEVERAL]
    return sorted(metrics, key=lambda metric: GROUPS.index(metric.group))  # stable: by group, else as declared


COLUMNS = _all()
_BY_KEY = {column.key: column for column in COLUMNS}
SCORES = {score.metric: score for score in scores().values()}  # by key of the row
SPEEDS = tuple(column.key for column in COLUMNS if column.group == "speed" and column.key.endswith("speedup_ratio"))
STAND_INS = {column.stand_in: column.key for column in COLUMNS if column.stand_in}  # stand-in: the column it replaces


def column_of(key: str) -> Metric | None:
    """Return the column of a figure; None for a figure without a column."""
    return _BY_KEY.get(key) or further_metric(key)


def higher_is_better(key: str) -> bool:
    """Return whether higher values of a score or speed are better. KeyError for a figure without a column."""
    return _BY_KEY[key].better != "low"


def known(rows: Sequence[Row]) -> list[Metric]:
    """Return the columns with a value in at least one row, those of single configurations included.

    A warning column needs a row with a warning. A column is replaced by its stand-in if both are equal in every row
    that has both.
    """
    columns = [column for column in with_further(rows) if any(_has_value(column, row) for row in rows)]
    columns = [column for column in columns if not column.is_warning or any(row.get(column.key) for row in rows)]
    for column in [column for column in columns if column.stand_in]:
        if _are_equal(rows, column.key, column.stand_in):
            columns = [_in_place_of(column, other) for other in columns if other is not column]
    return columns


def with_further(rows: Sequence[Row]) -> list[Metric]:
    """Return all columns, with those of further grid points and parameters after the column that they resemble."""
    columns = list(COLUMNS)
    keys = dict.fromkeys(key for row in rows for key in row.figures if key not in _BY_KEY)
    for key in reversed(keys):  # each is inserted directly after its column, so the last comes first
        metric = further_metric(key)
        if metric is None or not metric.title:
            continue
        base = key.partition(AT)[0]
        same_column = [index for index, column in enumerate(columns) if column.key == base]
        same_benchmark = [index for index, column in enumerate(columns) if column.benchmark == metric.benchmark]
        columns.insert((same_column or same_benchmark or [len(columns) - 1])[-1] + 1, metric)
    return columns


def _are_equal(rows: Sequence[Row], key: str, other: str) -> bool:
    pairs = [(row.get(key), row.get(other)) for row in rows]
    known_pairs = [
        (value, other_value) for value, other_value in pairs if value is not None and other_value is not None
    ]
    return bool(known_pairs) and all(math.isclose(value, other_value) for value, other_value in known_pairs)


def _in_place_of(column: Metric, other: Metric) -> Metric:
    if other.key != column.stand_in:
        return other
    return replace(other, rank=column.rank, better=column.better, about=other.about_as_stand_in or other.about)


def _has_value(column: Metric, row: Row) -> bool:
    """Return whether a row has a value of a column. The reference's speedup over itself does not count."""
    return column.show(row) != UNKNOWN and not (column.group == "speed" and row.get(column.key) is None)


def failures(rows: Sequence[Row]) -> list[str]:
    """Return one line with status and reason for each row that is not ok."""
    return [f"{row.runtime}: {row.status}: {row.reason}" for row in rows if row.status != "ok"]


def is_alarm(row: Row) -> bool:
    """Return whether the row's timed outputs were wrong or its timing invalid."""
    return row.status in FAILED_TIMING


def speed_notes(rows: Sequence[Row]) -> list[str]:
    """Return one line for each row whose speeds by the two clocks disagree, with the reason."""
    return [f"NOTE {row.runtime}: {row.speed_note}" for row in rows if row.speed_note]
