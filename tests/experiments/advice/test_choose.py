from __future__ import annotations

from pathlib import Path

import pytest

from experiments.advice.choose import Wish, choose, kept
from experiments.records.matrix import rows
from experiments.report import read
from experiments.views.columns import Row
from tests.experiments.recorded import make_record, sweep, write


@pytest.fixture
def found(tmp_path: Path) -> list[Row]:
    return rows(read(sweep(tmp_path))[0])


def best(found: list[Row], wish: Wish) -> str | None:
    row = choose(found, wish).best
    return row["runtime"] if row else None


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        (Wish("latency"), "onnxruntime"),
        (Wish("memory"), "gptq"),
        (Wish("memory", min_accuracy=0.99), "eager"),
        (Wish("latency", max_memory_gib=0.1), "gptq"),
        (Wish("latency", max_memory_gib=0.1, min_accuracy=0.99), "eager"),
        (Wish("throughput"), "onnxruntime"),
        (Wish("cost", usd_per_hour=1.0), "onnxruntime"),
        (Wish("latency", max_ttft_s=0.001), "onnxruntime"),
        (Wish("latency", min_accuracy=1.01), None),
    ],
)
def test_the_best_under_constraints(found: list[Row], wish: Wish, name: str | None) -> None:
    assert best(found, wish) == name


def test_what_is_not_told_apart_from_the_best_is_said(found: list[Row]) -> None:
    (fast,) = [row for row in found if row["runtime"] == "onnxruntime"]
    twin = {**fast, "runtime": "twin", "speedup_ratio": fast["speedup_ratio"] * 0.999}
    assert [row["runtime"] for row in choose([*found, twin], Wish("latency")).tied] == ["twin"]


def test_the_smallest_relaxation_lets_exactly_that_cell_in(found: list[Row]) -> None:
    wish = Wish("latency", min_accuracy=0.99, max_memory_gib=0.05, max_ttft_s=0.01)
    chosen = choose(found, wish)
    assert chosen.best is None
    assert chosen.relaxed is not None
    relaxed, row = chosen.relaxed
    assert row["runtime"] == "eager"  # 60 MiB for 51: nearer than gptq's accuracy, 0.625 for 0.99
    assert (relaxed.min_accuracy, relaxed.max_ttft_s) == (0.99, 0.01)
    assert best(found, relaxed) == "eager"


def test_what_is_missed_by_less_than_noise_says_so(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("near", accuracy=0.775), make_record("far", accuracy=0.4)]
    found = rows(read(write(tmp_path, cells, {"near": 2.0, "far": 2.0}))[0])
    why = {row["runtime"]: said for row, said in choose(found, Wish("latency", min_accuracy=0.99)).unranked}
    assert why == {
        "near": "--min-accuracy 0.99: 0.9688, its interval reaches it: more items would tell",
        "far": "--min-accuracy 0.99: 0.5",
    }


def test_what_was_not_measured_qualifies_for_nothing(found: list[Row]) -> None:
    for row in found:
        row["peak_host_bytes"] = None
    chosen = choose(found, Wish("latency", max_memory_gib=1000))
    assert chosen.best is None
    assert chosen.relaxed is None
    assert {why for _, why in chosen.unranked} == {"--max-memory-gib 1000: not measured"}


def test_what_is_kept_is_of_the_benchmark_that_lost_most(found: list[Row]) -> None:
    shares = {row["runtime"]: kept(row) for row in found if row["status"] == "ok"}
    assert shares == pytest.approx({"eager": 1.0, "onnxruntime": 1.0, "compile": 1.0, "gptq": 0.625})


def test_the_price_of_a_profile_is_used_and_another_can_be_given(found: list[Row]) -> None:
    priced = [{**row, "usd_per_million_tokens": 0.5} for row in found]
    assert choose(priced, Wish("cost")).basis == "price of a million tokens offline"
    assert "no price an hour is known" in choose(found, Wish("cost")).basis
