from __future__ import annotations

from pathlib import Path

import pytest

from experiments.records.costs import energy, money, pays_after
from experiments.records.matrix import rows
from experiments.records.score_bounds import score_bounds
from experiments.report import read
from tests.experiments.recorded import make_record, write

THROUGHPUT = {"figures": {"tokens_per_s": 1000.0, "requests_per_s": 10.0}, "parameters": {"new_tokens": 500}}
REFERENCE = {"load_s": 0.1, "first_call_s": 0.1, "tpot_s_p50": 0.010}
CELL = {"load_s": 0.2, "first_call_s": 2.0, "speedup_ratio": 2.0, "speedup_ratio_low": 1.25, "speedup_ratio_high": 4.0}


def test_money_is_the_profiles_price_over_the_measured_throughput() -> None:
    found = money(make_record("eager", price=3.6), THROUGHPUT)
    assert found["usd_per_million_tokens"] == pytest.approx(1.0)  # a thousand seconds at a tenth of a cent
    assert found["usd_per_thousand_requests"] == pytest.approx(0.1)
    assert money(make_record("eager"), THROUGHPUT)["usd_per_million_tokens"] is None
    assert money(make_record("eager", price=3.6), {})["usd_per_million_tokens"] is None


def test_energy_is_null_with_the_reason_or_a_counters_reading() -> None:
    assert energy({}) == {"energy_j_per_token": None, "energy_reason": "not measured"}
    none = {"figures": {"energy_j": None, "energy_reason": "no RAPL counter"}, "parameters": {"new_tokens": 1}}
    assert energy(none) == {"energy_j_per_token": None, "energy_reason": "no RAPL counter"}
    read = {"figures": {"energy_j": 5.0, "energy_reason": None}, "parameters": {"new_tokens": 500}}
    assert energy(read) == {"energy_j_per_token": 0.01, "energy_reason": None}


def test_a_build_pays_once_what_it_saves_exceeds_it() -> None:
    assert pays_after(CELL, REFERENCE) == {
        "pays_after_tokens": pytest.approx(400),  # 2 s more, 5 ms less a token
        "pays_after_tokens_low": pytest.approx(2 / 0.0075),
        "pays_after_tokens_high": pytest.approx(1000),
    }


@pytest.mark.parametrize(
    ("change", "tokens"),
    [
        ({"speedup_ratio": 0.9, "speedup_ratio_low": 0.8, "speedup_ratio_high": 0.95}, None),  # never
        ({"load_s": 0.0, "first_call_s": 0.0}, 0.0),  # from the start
        ({"speedup_ratio": None}, None),  # not interleaved
        ({"first_call_s": None}, None),
    ],
)
def test_a_build_that_never_or_always_pays(change: dict[str, float | None], tokens: float | None) -> None:
    assert pays_after(CELL | change, REFERENCE)["pays_after_tokens"] == tokens


def test_a_lower_bound_below_1_leaves_open_whether_it_ever_pays() -> None:
    found = pays_after(CELL | {"speedup_ratio_low": 0.9}, REFERENCE)
    assert found["pays_after_tokens"] is not None
    assert found["pays_after_tokens_high"] is None


def test_bounds_of_scores_are_those_of_the_answers_in_the_row_s_unit() -> None:
    figures = {"score_difference": {"estimate": -0.01, "low": -0.03, "high": 0.02, "level": 0.95}}
    found = score_bounds({"against": "x", "benchmarks": {"multiple_choice": figures, "extractive_qa": figures}})
    ends = ("", "_low", "_high")
    assert [found[f"mcq_accuracy_difference{end}"] for end in ends] == [-0.01, -0.03, 0.02]
    assert [found[f"qa_f1_difference{end}"] for end in ends] == [-1.0, -3.0, 2.0]
    assert found["rouge_l_difference"] is None
    assert score_bounds(None)["mcq_accuracy_difference_low"] is None


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
    found = {row["runtime"]: row for row in rows(read(tmp_path)[0])}
    assert (found["eager"]["run_id"], found["gptq"]["run_id"]) == ("b", "a")
    assert found["gptq"]["mcq_accuracy_percent_of_reference"] == pytest.approx(75)
    assert len(rows(read(tmp_path)[0], all=True)) == 3
