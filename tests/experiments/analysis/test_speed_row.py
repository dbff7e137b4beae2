"""Speed figures of a row: interleaved, alone, and of wrong work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import make_record, sweep, write


def by_name(folder: Path, *cells: str, **options: Any) -> dict[str, Row]:
    write(folder, [make_record("eager"), *map(make_record, cells)], **options)
    return {row.runtime: row for row in rows(read(folder)[0])}


def bounds(row: Row, key: str) -> tuple[float, float, float]:
    interval = row.interval(key)
    assert interval is not None
    return interval


def test_interleaved_times_match_the_ratio(tmp_path: Path) -> None:
    found = by_name(tmp_path, "onnxruntime", speedups={"onnxruntime": 2.5})
    mine, reference = found["onnxruntime"], found["eager"]
    assert mine.latency_source == reference.latency_source == "interleaved"
    (step_s, *_), (reference_s, *_) = (bounds(row, "tpot_s_p50") for row in (mine, reference))
    ratio, low, high = bounds(mine, "speedup_ratio")
    assert reference_s / step_s == pytest.approx(ratio, rel=0.01)
    assert low < ratio < high
    assert (mine["speedup_threads"], mine["speedup_launches"], mine["timed_recompiles"]) == (2, 4, 0)
    rate, low, high = bounds(mine, "batched_tokens_per_s")
    assert low < rate < high


def test_times_that_are_not_interleaved_are_marked_and_have_no_ratio(tmp_path: Path) -> None:
    row = by_name(tmp_path)["eager"]
    assert row.latency_source == "alone"
    assert row["tpot_s_p50"] is not None
    assert {row["tpot_s_p50_low"], row["batched_tokens_per_s"], row["request_s"], row["speedup_ratio"]} == {None}


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("tokens", "wrong output", "1,296 of 1,296 timed tokens"),
        ("between", "invalid timing", "computed between its rounds"),
    ],
)
def test_wrong_work_has_no_speed(tmp_path: Path, kind: str, status: str, reason: str) -> None:
    row = by_name(tmp_path, "cheat", speedups={"cheat": 165.0}, wrong={"cheat": kind})["cheat"]
    assert row.status == status
    assert row.reason is not None
    assert reason in row.reason
    names = ("speedup_ratio", "tokens_per_s", "ttft", "tpot")
    speeds = [key for key in row.figures if any(name in key for name in names)]
    assert {row[key] for key in speeds} == {None}
    assert row["usd_per_million_tokens"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema_version": 1}', "speed.json cannot be read: it is not of schema 2"),
        ("{", "speed.json cannot be read: Expecting property name"),
        ('{"schema_version": 2, "launches": 3}', "speed.json cannot be read: Expected `array`, got `int`"),
    ],
)
def test_an_unreadable_comparison_is_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path, [make_record("eager"), make_record("gptq")], {"gptq": 0.5})
    (tmp_path / "run-1-gptq" / "speed.json").write_text(text)
    (row,) = [row for row in rows(read(tmp_path)[0]) if row.runtime == "gptq"]
    assert row["speedup_ratio"] is None
    assert row.speedup_reason is not None
    assert row.speedup_reason.startswith(reason)


def test_intervals_of_a_column_hold_together(tmp_path: Path) -> None:
    """The more cells of a run are compared, the wider each interval is."""

    def width(folder: Path, *names: str) -> float:
        row = by_name(folder, *names, speedups=dict.fromkeys(names, 2.5))["first"]
        _, low, high = bounds(row, "speedup_ratio")
        return high - low

    alone = width(tmp_path / "one", "first")
    assert width(tmp_path / "three", "first", "second", "third") > 1.2 * alone


def test_the_sweep_of_the_tests_has_the_figures_of_reports(tmp_path: Path) -> None:
    found = {row.runtime: row.status for row in rows(read(sweep(tmp_path, has_garbage=True))[0])}
    assert (found["offload"], found["t_garbage"]) == ("out_of_memory", "wrong output")
