from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.advice.choose import Constraints, choose
from runtime_matrix.experiments.advice.kept import Kept, kept, unshown
from runtime_matrix.experiments.advice.phrasing import advice_lines
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import changed_row, make_record, sweep, write


@pytest.fixture
def found(tmp_path: Path) -> list[Row]:
    """Rows with so many questions that no flip shows 99 % to be kept."""
    return rows(read(sweep(tmp_path, questions=600))[0])


@pytest.fixture
def few(tmp_path: Path) -> list[Row]:
    """The same with 40 questions."""
    return rows(read(sweep(tmp_path / "few", has_garbage=True))[0])


def best(found: list[Row], constraints: Constraints) -> str | None:
    row = choose(found, constraints).best
    return row.runtime if row else None


@pytest.mark.parametrize(
    ("constraints", "name"),
    [
        (Constraints("latency"), "onnxruntime"),
        (Constraints("memory"), "gptq"),
        (Constraints("memory", min_accuracy=0.99), "eager"),
        (Constraints("latency", max_memory_gib=0.1), "gptq"),
        (Constraints("latency", max_memory_gib=0.1, min_accuracy=0.99), "eager"),
        (Constraints("throughput"), "onnxruntime"),
        (Constraints("cost", usd_per_hour=1.0), "onnxruntime"),
        (Constraints("latency", max_ttft_s=0.002), "onnxruntime"),
        (Constraints("latency", min_accuracy=1.01), None),
    ],
)
def test_the_best_under_constraints(found: list[Row], constraints: Constraints, name: str | None) -> None:
    assert best(found, constraints) == name


def test_a_cell_with_an_overlapping_interval_is_tied(found: list[Row]) -> None:
    (fast,) = [row for row in found if row.runtime == "onnxruntime"]
    twin = changed_row(replace(fast, runtime="twin"), speedup_ratio=0.999 * (fast["speedup_ratio"] or 0))
    assert [row.runtime for row in choose([*found, twin], Constraints("latency")).tied] == ["twin"]


def test_the_smallest_relaxation_admits_exactly_that_cell(found: list[Row]) -> None:
    constraints = Constraints("latency", min_accuracy=0.99, max_memory_gib=0.05, max_ttft_s=0.01)
    chosen = choose(found, constraints)
    assert chosen.best is None
    assert chosen.relaxed is not None
    relaxed, row = chosen.relaxed
    assert row.runtime == "eager"  # 60 MiB for 51: nearer than gptq's accuracy, 0.625 for 0.99
    assert (relaxed.min_accuracy, relaxed.max_ttft_s) == (0.99, 0.01)
    assert best(found, relaxed) == "eager"


def test_a_miss_within_the_interval_suggests_more_items(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("near", accuracy=0.775), make_record("far", accuracy=0.4)]
    found = rows(read(write(tmp_path, cells, {"near": 2.0, "far": 2.0}))[0])
    why = {row.runtime: said for row, said in choose(found, Constraints("latency", min_accuracy=0.99)).unranked}
    assert why["near"].startswith("--min-accuracy 0.99: keeps 96.9 % [")
    assert why["near"].endswith("; the interval reaches it, more items would decide")
    assert why["far"].startswith("--min-accuracy 0.99: keeps 50.0 % [")
    assert "more items" not in why["far"]


def test_an_estimate_alone_does_not_qualify(few: list[Row]) -> None:
    chosen = choose(few, Constraints("latency", min_accuracy=0.99))
    assert [row.runtime for row in chosen.ranked] == ["eager"]
    why = {row.runtime: said for row, said in chosen.unranked}
    assert why["onnxruntime"].startswith("--min-accuracy 0.99: not shown: keeps 100.0 % [8")
    assert why["onnxruntime"].endswith(" items would show it")
    said = advice_lines(chosen, Constraints("latency", min_accuracy=0.99))
    assert any("no cell but the reference is shown to keep 99 % of its scores; about " in line for line in said)
    assert best(few, Constraints("latency", min_accuracy=0.99, accept_unshown=True)) == "onnxruntime"
    assert best(few, Constraints("latency", min_accuracy=0.88)) == "onnxruntime"  # the bound reaches that


def test_the_suggested_number_of_items_is_enough(few: list[Row], tmp_path: Path) -> None:
    why = unshown(next(row for row in few if row.runtime == "onnxruntime"), 0.99) or ""
    items = int(why.split("about ")[1].split(" items")[0].replace(",", ""))
    more = rows(read(sweep(tmp_path / "more", questions=items))[0])
    assert best(more, Constraints("latency", min_accuracy=0.99)) == "onnxruntime"
    fewer = rows(read(sweep(tmp_path / "fewer", questions=int(0.85 * items)))[0])
    assert best(fewer, Constraints("latency", min_accuracy=0.99)) == "eager"


@pytest.mark.parametrize(
    ("share", "items"),
    [
        (Kept("code", 1.0, 0.95, 1.05, 100), 2500),  # five times as near: 25 times as many
        (Kept("code", 1.0, 0.95, 1.05, 100, is_untouched=True), 530),  # as many times as it is nearer, nearly
        (Kept("code", 0.985, 0.95, 1.02, 100), None),  # below the floor already
        (Kept("code", 1.0, None, None, None), None),
    ],
)
def test_items_to_show(share: Kept, items: int | None) -> None:
    found = share.items_to_show(0.99)
    assert found is None if items is None else found == pytest.approx(items, rel=0.05)


def test_a_cell_with_wrong_output_is_never_chosen_and_is_reported(few: list[Row]) -> None:
    for goal in ("latency", "throughput", "memory", "cost"):
        constraints = Constraints(goal, usd_per_hour=1.0)
        chosen = choose(few, constraints)
        assert "t_garbage" not in [row.runtime for row in [*chosen.ranked, *(row for row, _ in chosen.unranked)]]
        (line,) = [line for line in advice_lines(chosen, constraints) if "t_garbage" in line]
        assert line.startswith("not compared: t_garbage: wrong output: 1,296 of 1,296 timed tokens")


def test_a_cell_that_is_slower_by_wall_time_is_not_called_faster(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("gptq")]
    found = rows(read(write(tmp_path, cells, {"gptq": 0.62}, cpu_speedups={"gptq": 1.09}))[0])
    assert [row.runtime for row in choose(found, Constraints("latency")).ranked] == ["eager", "gptq"]
    assert found[1]["break_even_tokens"] is None


@pytest.mark.parametrize(
    "constraints", [Constraints("throughput"), Constraints("cost"), Constraints("cost", usd_per_hour=1.0)]
)
def test_rates_that_were_not_interleaved_are_not_ranked(tmp_path: Path, constraints: Constraints) -> None:
    found = rows(read(write(tmp_path, [make_record("eager"), make_record("compile", slowness=0.5)]))[0])
    chosen = choose(found, constraints)
    assert chosen.ranked == []
    said = advice_lines(chosen, constraints)[0]
    assert said.startswith("not ranked: no batches were measured in turns with the reference")


def test_prices_with_overlapping_intervals_are_tied(found: list[Row]) -> None:
    (fast,) = [row for row in found if row.runtime == "onnxruntime"]
    rate = 0.999 * (fast["batched_tokens_per_s"] or 0)
    twin = changed_row(replace(fast, runtime="twin"), batched_tokens_per_s=rate)
    chosen = choose([*found, twin], Constraints("cost", usd_per_hour=1.0))
    assert chosen.basis == "price per million tokens of interleaved batches"
    assert [row.runtime for row in chosen.tied] == ["twin"]


def test_an_unmeasured_value_does_not_qualify(found: list[Row]) -> None:
    unknown = [changed_row(row, peak_host_bytes=None) for row in found]
    chosen = choose(unknown, Constraints("latency", max_memory_gib=1000))
    assert chosen.best is None
    assert chosen.relaxed is None
    assert {why for _, why in chosen.unranked} == {"--max-memory-gib 1000: not measured"}


def test_the_kept_share_is_that_of_the_benchmark_that_lost_most(found: list[Row]) -> None:
    shares = {row.runtime: kept(row) for row in found if row.status == "ok"}
    assert shares == pytest.approx({"eager": 1.0, "onnxruntime": 1.0, "compile": 1.0, "gptq": 0.625})


def test_the_price_is_the_profile_s_or_that_of_the_option(found: list[Row]) -> None:
    ends = {f"usd_per_million_tokens{end}": value for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))}
    priced = [changed_row(row, **ends) for row in found]
    assert choose(priced, Constraints("cost")).basis == "price per million tokens of interleaved batches"
    assert "no hourly price is known" in choose(found, Constraints("cost")).basis


def test_a_bound_equal_to_the_estimate_needs_no_more_items() -> None:
    assert Kept("perplexity", share=0.99999, low=0.99999, high=0.99999, items=250).items_to_show(0.99) == 1
