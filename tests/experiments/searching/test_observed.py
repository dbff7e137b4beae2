from __future__ import annotations

import math
from pathlib import Path

import pytest

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.searching.observed import Trial, gains_of, observe
from runtime_matrix.experiments.searching.policy import Seen
from tests.experiments.recorded import launches, make_record, result, sweep


@pytest.fixture
def found(tmp_path: Path) -> dict[str, list[Trial]]:
    """The trials of a recorded sweep, one for each candidate."""
    results, _ = read(sweep(tmp_path, questions=600))
    (reference,) = [one for one in results if one.record.is_reference]
    return {one.record.runtime.name: [Trial(one, reference)] for one in results}


def by_name(trials: dict[str, list[Trial]], request: Constraints) -> dict[str, Seen]:
    return {one.name: one for one in observe(trials, request)}


def test_variances_are_pooled_over_candidates() -> None:
    gains = gains_of({"a": [0.0, 0.2], "b": [1.0, 1.2, 1.1], "c": [3.0], "d": []}, level=0.95)
    variance = (0.02 + 0.02) / 3  # squares of a and b over 1 + 2 degrees of freedom
    half = 3.182446 * math.sqrt(variance)
    assert gains["c"] is not None
    assert (gains["c"].low, gains["c"].high) == pytest.approx((3 - half, 3 + half))
    assert gains["a"] is not None
    assert gains["a"].half_width == pytest.approx(half / math.sqrt(2))
    assert gains["d"] is None
    assert gains_of({"a": [1.0], "b": [2.0]}) == {"a": None, "b": None}


def test_launches_of_all_levels_count() -> None:
    reference = result(make_record("eager"))
    levels = [result(make_record("fast"), launches(speedup, 2)) for speedup in (2.0, 8.0)]
    (one,) = observe({"fast": [Trial(level, reference) for level in levels]}, Constraints("latency"))
    assert one.gain is not None
    assert math.exp(one.gain.estimate) == pytest.approx(4.0, rel=0.05)


def test_the_reference_gains_nothing_exactly(found: dict[str, list[Trial]]) -> None:
    seen = by_name(found, Constraints("latency"))
    assert seen["eager"].gain is not None
    assert (seen["eager"].gain.low, seen["eager"].gain.high) == (0.0, 0.0)
    assert seen["onnxruntime"].gain is not None
    assert seen["onnxruntime"].gain.low > 0


def test_less_memory_is_a_gain(found: dict[str, list[Trial]]) -> None:
    seen = by_name(found, Constraints("memory"))
    known = {name: one.gain.estimate for name, one in seen.items() if one.gain}
    assert max(known, key=lambda name: known[name]) == "gptq"


def test_constraints_hold_by_their_bounds(found: dict[str, list[Trial]]) -> None:
    strict, loose = (by_name(found, Constraints("latency", min_accuracy=floor)) for floor in (0.99, 0.5))
    assert strict["eager"].is_feasible
    assert strict["gptq"].is_feasible is not True
    assert strict["gptq"].why
    assert loose["gptq"].is_feasible
    peak = by_name(found, Constraints("memory"))["gptq"].gain
    assert peak is not None
    gib = math.exp(-peak.estimate) / 2**30
    for limit, is_feasible in ((0.5 * gib, False), (gib, None), (2 * gib, True)):
        assert by_name(found, Constraints("latency", max_memory_gib=limit))["gptq"].is_feasible is is_feasible
    assert by_name(found, Constraints("latency", max_ttft_s=1e-6))["onnxruntime"].is_feasible is False
    assert by_name(found, Constraints("latency", max_ttft_s=10.0))["onnxruntime"].is_feasible


def test_a_cell_that_failed_is_not_feasible() -> None:
    reference: Result = result(make_record("eager"))
    failed = result(make_record("tensorrt", status="unsupported", reason="needs a GPU"))
    (one,) = observe({"tensorrt": [Trial(failed, reference)]}, Constraints("latency"))
    assert (one.is_feasible, one.why) == (False, "unsupported: needs a GPU")


def test_a_resumed_reference_of_an_earlier_run_still_counts(found: dict[str, list[Trial]]) -> None:
    from dataclasses import replace

    from msgspec import structs

    earlier = {
        name: [replace(one, reference=replace(one.reference, record=structs.replace(one.reference.record, run_id="0")))]
        for name, (one,) in found.items()
    }
    request = Constraints("latency", min_accuracy=0.5)
    assert by_name(earlier, request)["gptq"].is_feasible
