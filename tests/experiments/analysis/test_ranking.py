"""Best, tied and dominated: only where intervals separate, and only among what is comparable."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis import ranking
from runtime_matrix.experiments.analysis.columns import COLUMNS
from runtime_matrix.experiments.analysis.ranking import PEAK, bounds, mark_best, memory_key, pareto
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from tests.experiments.recorded import changed_row

AXES = [("speedup_ratio", "high"), ("mcq_accuracy", "high"), ("peak_host_bytes", "low")]


def by_name(found: list[Row]) -> dict[str, Row]:
    return {row.runtime: row for row in found}


def test_the_best_and_its_ties_are_marked(found: list[Row]) -> None:
    marks = mark_best(found, COLUMNS)
    assert {key: mark for key, mark in marks.items() if key[1] == "speedup_ratio"} == {
        ("run-1-onnxruntime", "speedup_ratio"): "best"
    }
    assert {key[0]: mark for key, mark in marks.items() if key[1] == "mcq_accuracy"} == {
        "run-1-eager": "tied",
        "run-1-onnxruntime": "tied",
        "run-1-compile": "tied",
    }
    assert marks["run-1-gptq", "peak_host_bytes"] == "best"


def test_times_that_are_not_interleaved_are_never_marked(found: list[Row]) -> None:
    assert not {key for _, key in mark_best(found, COLUMNS)} & {"ttft_s_p50", "tpot_s_p50", "throughput_tokens_per_s"}


def test_speeds_of_two_runs_are_not_compared(found: list[Row]) -> None:
    elsewhere = [replace(row, run_id=row.runtime, record_id=row.runtime) for row in found]
    assert not [key for key in mark_best(elsewhere, COLUMNS) if key[1] == "speedup_ratio"]


def test_nothing_is_marked_if_all_are_tied(found: list[Row]) -> None:
    assert not [key for key in mark_best(found, COLUMNS) if key[1] == "weight_bytes"]


def test_a_metric_of_a_package_is_judged_by_the_noise_that_it_declares(
    found: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = Metric(
        key="cache_bytes", title="cache", better="low", noise_ratio=0.1, noise_floor=30.0, is_of_machine=True
    )
    monkeypatch.setattr(ranking, "column_of", lambda key: metric)
    rows = [changed_row(row, cache_bytes=value) for row, value in zip(found, (1000.0, 100.0), strict=False)]
    assert [bounds(row, metric.key) for row in rows] == [(900.0, 1000.0, 1100.0), (70.0, 100.0, 130.0)]
    assert mark_best(rows, [metric]) == {(rows[1].record_id, metric.key): "best"}
    assert mark_best([rows[0], replace(rows[1], machine="another")], [metric]) == {}


def test_a_score_without_a_difference_still_has_bounds(found: list[Row]) -> None:
    low, value, high = bounds(by_name(found)["onnxruntime"], "mcq_accuracy") or (0, 0, 0)
    assert low < value < high  # 40 items with no flip leave 9 points open
    assert round(high - value, 2) == 0.09
    assert bounds(by_name(found)["eager"], "mcq_accuracy") == (0.8, 0.8, 0.8)


def test_a_row_is_dominated_if_significantly_worse_on_one_axis_and_better_on_none(found: list[Row]) -> None:
    front = pareto(found, AXES)
    dominated = dict(zip(front.record_ids, front.dominated_by, strict=True))
    assert dominated == {
        "run-1-eager": [],
        "run-1-onnxruntime": [],
        "run-1-compile": ["run-1-onnxruntime"],
        "run-1-gptq": [],  # slower and less accurate, and the smallest
    }
    assert front.missing == {"run-1-offload": "out_of_memory"}


def test_memory_is_that_of_the_device_if_there_is_a_peak_of_it(found: list[Row]) -> None:
    """A cell of a GPU is judged by the device's memory, a cell without such a peak by the host's."""
    on_host = changed_row(by_name(found)["eager"], peak_device_bytes=None)
    on_device = [
        changed_row(replace(on_host, record_id=str(mib)), peak_device_bytes=mib * 2**20, peak_host_bytes=host * 2**20)
        for mib, host in ((100, 900), (200, 500))
    ]
    assert [memory_key(row) for row in (on_host, *on_device)] == ["peak_host_bytes", *["peak_device_bytes"] * 2]
    front = pareto([on_host, *on_device], [("mcq_accuracy", "high"), (PEAK, "low")])
    assert front.dominated_by == [[], ["run-1-eager"], ["run-1-eager", "100"]]  # 60 MiB on the host


def test_a_difference_within_the_intervals_does_not_dominate(found: list[Row]) -> None:
    row = by_name(found)["onnxruntime"]
    twin = changed_row(replace(row, record_id="twin"), speedup_ratio=1.001 * (row["speedup_ratio"] or 0))
    front = pareto([row, twin], AXES)
    assert front.dominated_by == [[], []]
