"""The measured figure of a claim: which row, which factor, which interval."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.ledger.claim import MeasuredBy
from runtime_matrix.experiments.ledger.evidence import evidence
from runtime_matrix.experiments.ledger.judging import closing_line, judge
from runtime_matrix.experiments.ledger.verdict import Measured
from runtime_matrix.experiments.records.row import Row
from tests.experiments.ledger.test_verdict import claim
from tests.experiments.recorded import changed_row, launches, make_record, result

EAGER, FAST = rows([result(make_record("eager"), launches(1.0)), result(make_record("onnxruntime"), launches(2.5))])


def measured(by: dict[str, Any], *of: Row, **more: Any) -> Measured | None:
    found = evidence(claim(2, 3, **more, measured_by=MeasuredBy(**by)), of)
    return None if found is None else found.measured


def test_a_speedup_over_the_reference_is_the_interleaved_one() -> None:
    found = measured({"figure": "speedup_ratio", "cell": "onnxruntime", "over": "eager"}, EAGER, FAST)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx(FAST.interval("speedup_ratio"))
    assert measured({"figure": "speedup_ratio", "cell": "onnxruntime", "over": "eager"}, FAST) is None  # alone
    assert measured({"figure": "speedup_ratio", "cell": "gptq", "over": "eager"}, EAGER, FAST) is None


def test_a_published_row_may_have_the_earlier_name_of_its_weights() -> None:
    older, other = changed_row(FAST, runtime="onnxruntime+int8"), changed_row(FAST, runtime="onnxruntime+fp8")
    assert measured({"figure": "load_s", "cell": "onnxruntime+w8a8"}, older) is not None
    assert measured({"figure": "load_s", "cell": "onnxruntime+w8a8"}, other) is None


def test_a_figure_of_a_named_model_is_not_of_another() -> None:
    by = {"figure": "load_s", "cell": "eager"}
    assert measured(by, EAGER) is not None
    assert measured({**by, "model": EAGER.model}, EAGER) is not None
    assert measured({**by, "model": "another"}, EAGER) is None


def test_a_switch_is_judged_by_the_measure_that_is_named() -> None:
    factors = {"ablation_x_memory_ratio": 1.5, "ablation_x_memory_ratio_low": 1.4, "ablation_x_memory_ratio_high": 1.6}
    row = changed_row(EAGER, **factors)
    assert measured({"switch": "x", "clock": "memory"}, row, quantity="memory") == Measured(1.5, 1.4, 1.6)
    assert measured({"switch": "x"}, row) is None


def test_the_errors_of_a_quotient_are_independent() -> None:
    small = changed_row(FAST, runtime="small", speedup_ratio=5.0, speedup_ratio_low=4.0, speedup_ratio_high=6.25)
    large = changed_row(FAST, speedup_ratio=2.0, speedup_ratio_low=1.6, speedup_ratio_high=2.5)
    found = measured({"figure": "speedup_ratio", "cell": "small", "over": "onnxruntime"}, EAGER, small, large)
    reach = math.exp(math.sqrt(2) * math.log(1.25))
    assert found is not None
    assert (found.value, *found.bounds) == pytest.approx((2.5, 2.5 / reach, 2.5 * reach))


def test_memory_is_old_over_new_and_exact() -> None:
    half = changed_row(FAST, weight_bytes=1_000_000.0)
    by = {"figure": "weight_bytes", "cell": "onnxruntime", "over": "eager"}
    assert measured(by, EAGER, half, quantity="memory") == Measured(2.0, 2.0, 2.0)
    assert measured({**by, "figure": "load_s"}, EAGER, FAST) is None  # measured once: no interval
    assert measured(by, EAGER, changed_row(half, run_id="another")) is None


def test_a_score_is_compared_by_paired_differences() -> None:
    lost = changed_row(
        FAST, mcq_accuracy=0.6, mcq_accuracy_difference=-0.2, mcq_accuracy_difference_low=-0.3,
        mcq_accuracy_difference_high=-0.1,
    )  # fmt: skip
    found = measured({"figure": "mcq_accuracy", "cell": "onnxruntime", "over": "eager"}, EAGER, lost, quantity="score")
    assert found is not None
    assert (found.value, *found.bounds) == pytest.approx((0.75, 0.5 / 0.8, 0.7 / 0.8))


def test_two_figures_of_a_row_and_a_level() -> None:
    sampled = changed_row(
        EAGER, code_pass_at_1=0.5, code_pass_at_1_standard_error=0.05, code_pass_at_5=0.8,
        code_pass_at_5_standard_error=0.04,
    )  # fmt: skip
    found = measured({"figure": "code_pass_at_5", "over_figure": "code_pass_at_1"}, EAGER, sampled)
    assert found is not None
    assert found.value == pytest.approx(1.6)
    assert found.bounds[0] < 1.4 < 1.8 < found.bounds[1]
    level = measured({"figure": "load_s", "scale": 1000}, EAGER, direction="level", unit="ms")
    assert level is not None
    assert level.value == pytest.approx(100)
    assert level.low is level.high is None


def test_a_switch_is_read_by_its_clock_and_the_newest_row_counts() -> None:
    figures = {"ablation_overlap_wall_ratio": 1.2, "ablation_overlap_wall_ratio_low": 1.1}
    older = changed_row(EAGER, **figures, ablation_overlap_wall_ratio_high=1.3)
    newer = changed_row(older, started_at="2026-12-01T00:00:00+00:00", ablation_overlap_wall_ratio=1.25)
    assert measured({"switch": "overlap", "clock": "wall"}, newer, older) == Measured(1.25, 1.1, 1.3)
    assert measured({"switch": "overlap"}, older) is None  # by CPU time
    assert measured({"switch": "overlap", "clock": "wall"}, changed_row(older, status="error")) is None
    assert (
        measured({"switch": "overlap", "clock": "wall"}, changed_row(older, ablation_overlap_wall_ratio=math.nan))
        is None
    )


def test_the_closing_line_counts_each_claim_once() -> None:
    by = MeasuredBy(figure="speedup_ratio", cell="onnxruntime", over="eager")
    claims = [
        claim(2, 3, measured_by=by),
        claim(4, 5, measured_by=by),
        claim(4, 5, measured_by=by, other_baseline="a CPU"),
        claim(2, 3),
    ]
    judged = judge(claims, [EAGER, FAST])
    assert [one.verdict for one in judged] == ["holds", "less", "other baseline", "unmeasured"]
    assert judged[-1].reason == "no record of these has the figure"
    expected = "4 claims: 3 measured (1 hold, 0 more, 1 less, 0 opposite, 1 of another baseline), 1 unmeasured"
    assert closing_line(judged) == expected
