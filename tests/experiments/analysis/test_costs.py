from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.costs import break_even, energy, money, start
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.score_bounds import comparison_figures
from runtime_matrix.experiments.records.comparison import BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.row import Figures
from runtime_matrix.experiments.records.schema import Entry, Load
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.statistics.interval import Interval
from tests.experiments.recorded import changed_row, make_record, result, speed, write


def throughput(new_tokens: int = 500, **figures: Any) -> Entry:
    return Entry(benchmark="throughput", status="ok", figures=figures, parameters={"new_tokens": new_tokens})


THROUGHPUT = throughput(tokens_per_s=1000.0, requests_per_s=10.0)
ALONE: Figures = {f"batched_tokens_per_s{end}": None for end in ("", "_low", "_high")}
BATCHED: Figures = {
    "batched_tokens_per_s": 2000.0,
    "batched_tokens_per_s_low": 1000.0,
    "batched_tokens_per_s_high": 4000.0,
}
(ROW,) = rows([result(make_record("eager"))])
REFERENCE = changed_row(
    ROW, load_s=0.1, first_call_s=0.1, tpot_s_p50=0.010, request_s=0.1, latency_source="interleaved"
)
SPEEDUPS = {
    f"{name}{end}": value
    for name in ("speedup_ratio", "request_speedup_ratio")
    for end, value in (("", 2.0), ("_low", 1.25), ("_high", 4.0))
}
CELL = changed_row(ROW, load_s=0.2, first_call_s=2.0, build_s=None, **SPEEDUPS)


def test_the_price_is_the_hourly_price_over_the_interleaved_rate() -> None:
    compared = replace(speed([]), options={"new_tokens": 32})
    price = money(make_record("eager", price=3.6), compared, BATCHED, THROUGHPUT)
    assert price.source == "interleaved"
    prices = [price.figures[f"usd_per_million_tokens{end}"] for end in ("_low", "", "_high")]
    assert prices == pytest.approx([0.25, 0.5, 1.0])  # 500 s at a tenth of a cent
    assert price.figures["usd_per_thousand_requests"] == pytest.approx(0.5 * 32 / 1000)


def test_a_price_that_is_not_interleaved_has_no_interval_and_is_marked() -> None:
    price = money(make_record("eager", price=3.6), None, ALONE, THROUGHPUT)
    found = price.figures
    assert price.source == "alone"
    assert found["usd_per_million_tokens"] == pytest.approx(1.0)  # a thousand seconds at a tenth of a cent
    assert (found["usd_per_million_tokens_low"], found["usd_per_million_tokens_high"]) == (None, None)
    assert found["usd_per_thousand_requests"] == pytest.approx(0.1)


def test_without_an_hourly_price_or_a_rate_the_price_is_unknown() -> None:
    no_price = money(make_record("eager"), None, BATCHED, THROUGHPUT)
    no_rate = money(make_record("eager", price=3.6), None, ALONE, None)
    for price in (no_price, no_rate):
        assert price.figures["usd_per_million_tokens"] is None
        assert price.source is None


def test_energy_is_a_reading_or_none_with_the_reason() -> None:
    assert energy(None) == (None, "not measured")
    assert energy(throughput(energy_j=None, energy_reason="no RAPL counter")) == (None, "no RAPL counter")
    assert energy(throughput(energy_j=5.0, energy_reason=None)) == (0.01, None)


def test_a_build_breaks_even_when_its_savings_exceed_it() -> None:
    assert break_even(CELL, REFERENCE) == {
        "break_even_tokens": pytest.approx(400),  # 2 s more, 5 ms less a token
        "break_even_tokens_low": pytest.approx(2 / 0.0075),
        "break_even_tokens_high": pytest.approx(1000),
        "break_even_requests": pytest.approx(40),
        "break_even_requests_low": pytest.approx(2 / 0.075),
        "break_even_requests_high": pytest.approx(100),
    }


def test_a_cached_build_counts_too() -> None:
    assert break_even(changed_row(CELL, build_s=3.0), REFERENCE)["break_even_tokens"] == pytest.approx(1000)


@pytest.mark.parametrize(
    ("change", "tokens"),
    [
        ({"speedup_ratio": 0.9, "speedup_ratio_low": 0.8, "speedup_ratio_high": 0.95}, None),  # never
        ({"speedup_ratio_low": 0.9}, None),  # not shown to be faster
        ({"load_s": 0.0, "first_call_s": 0.0}, 0.0),  # from the start
        ({"speedup_ratio": None, "speedup_ratio_low": None, "speedup_ratio_high": None}, None),  # not interleaved
        ({"first_call_s": None}, None),
    ],
)
def test_break_even_is_zero_or_none_at_the_extremes(change: dict[str, float | None], tokens: float | None) -> None:
    assert break_even(changed_row(CELL, **change), REFERENCE)["break_even_tokens"] == tokens


def test_break_even_needs_interleaved_times_of_the_reference() -> None:
    assert set(break_even(CELL, changed_row(REFERENCE, latency_source="alone")).values()) == {None}


@pytest.mark.parametrize(
    ("artifacts", "counters", "kind", "build_s"),
    [
        ({}, {}, "plain", None),
        ({"built": 1, "found": 0, "build_s": 4.0}, {}, "cold", None),
        ({"built": 0, "found": 1, "build_s": 12.3}, {}, "warm", 12.3),
        ({}, {"compile_cache_misses": 2}, "cold", None),
        ({}, {"compile_cache_hits": 2}, "warm", None),
    ],
)
def test_a_start_is_cold_warm_or_plain(
    artifacts: dict[str, float], counters: dict[str, int], kind: str, build_s: float | None
) -> None:
    load = Load(phases_s={}, dtype="float32", device="cpu", artifacts=artifacts)
    latency = Entry(benchmark="latency", status="ok", counters=counters)
    assert start(load, latency) == (kind, build_s)


def test_bounds_of_scores_are_those_of_the_answers_in_the_row_s_unit() -> None:
    compared = BenchmarkDiff(items=40, score="is_right", score_difference=Interval(-0.01, -0.03, 0.02, 0.95))
    benchmarks = {"multiple_choice": compared, "extractive_qa": compared}
    found = comparison_figures(OutputDiff(schema_version=1, against="x", benchmarks=benchmarks))
    ends = ("", "_low", "_high")
    assert [found[f"mcq_accuracy_difference{end}"] for end in ends] == [-0.01, -0.03, 0.02]
    assert [found[f"qa_f1_difference{end}"] for end in ends] == [-1.0, -3.0, 2.0]
    assert found["rouge_l_difference"] is None
    assert comparison_figures(None)["mcq_accuracy_difference_low"] is None


def test_the_latest_record_of_a_cell_and_machine_counts_with_its_own_runs_reference(tmp_path: Path) -> None:
    old, new = "2026-11-01T10:00:00+00:00", "2026-11-02T10:00:00+00:00"
    write(
        tmp_path,
        [
            make_record("eager", run="a", started_at=old, accuracy=0.8, commit="a" * 40),
            make_record("gptq", run="a", started_at=old, accuracy=0.6, commit="a" * 40),
            make_record("eager", run="b", started_at=new, accuracy=0.4, commit="b" * 40),
        ],
    )
    found = {row.runtime: row for row in rows(read(tmp_path)[0])}
    assert (found["eager"].run_id, found["gptq"].run_id) == ("b", "a")
    assert found["gptq"]["mcq_accuracy_percent_of_reference"] == pytest.approx(75)
    assert len(rows(read(tmp_path)[0], all=True)) == 3
