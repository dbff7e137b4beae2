"""Shares of requests under load."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from runtime_matrix.experiments.gates.axes import serving
from runtime_matrix.experiments.gates.axes.serving import counts
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Entry, typed
from tests.experiments.gates.judged import LIMITS, baseline

LEVEL = 0.975


def loaded(result: Result, requests: int, completed: int, met: int, *points: str) -> Result:
    """Return the result with entries of `serving`."""
    plain: dict[str, Any] = {
        **{"status": "ok", "reason": None, "counters": {}, "duration_s": 2.0, "ended_at": 1793527230.0},
        **{"benchmark": "serving", "samples": {}, "timed_tokens": {}, "items_file": None},
        "figures": {"requests": requests, "completed_requests": completed, "met_requests": met},
    }
    entries = [typed({**plain, "case": point, "parameters": {"load": point}}, Entry) for point in points or ("c4",)]
    return replace(result, record=structs.replace(result.record, benchmarks=[*result.record.benchmarks, *entries]))


def judged(limits: Any, measured: Measured, **shares: float) -> list[LimitResult]:
    found: list[LimitResult] = limits.judge(measured, shares, LIMITS, LEVEL)
    return found


@pytest.mark.parametrize(
    ("completed", "limit", "verdict"),
    [(1000, 0.01, "pass"), (1000, 0.001, "inconclusive"), (995, 0.005, "inconclusive"), (950, 0.01, "fail")],
)
def test_a_share_alone(measured: Measured, completed: int, limit: float, verdict: str) -> None:
    own = replace(measured, result=loaded(measured.result, 1000, completed, completed))
    (found,) = judged(serving.MOST, own, error_ratio=limit)
    assert found.verdict == verdict
    assert found.name == "reference.serving_at_most.error_ratio"
    assert found.low is not None
    assert found.high is not None
    assert found.low <= (1000 - completed) / 1000 <= found.high


def test_shares_against_the_reference(measured: Measured) -> None:
    reference = loaded(measured.reference, 1000, 1000, 900)
    for met, verdict in ((900, "pass"), (850, "inconclusive"), (500, "fail")):
        own = replace(measured, result=loaded(measured.result, 1000, 1000, met), reference=reference)
        (found,) = judged(serving.REFERENCE, own, unmet_ratio=0.06)
        assert found.verdict == verdict, found.message
        assert f"{1000 - met} of 1000, 100 of 1000 of eager" in found.message
    assert "raise gate.reference.serving.unmet_ratio" in found.message


def test_shares_against_the_baseline(measured: Measured) -> None:
    own = replace(measured, result=loaded(measured.result, 1000, 800, 800))
    kept = baseline(serving={"c4": {"error_ratio": (2, 1000), "unmet_ratio": (200, 1000)}})
    found = judged(serving.BASELINE, replace(own, baseline=kept), error_ratio=0.1, unmet_ratio=0.1)
    assert [finding.verdict for finding in found] == ["fail", "pass"]


def test_each_grid_point_is_judged_and_all_share_the_error(measured: Measured) -> None:
    one = judged(serving.MOST, replace(measured, result=loaded(measured.result, 100, 99, 99)), error_ratio=0.1)
    two = judged(
        serving.MOST, replace(measured, result=loaded(measured.result, 100, 99, 99, "c1", "c8")), error_ratio=0.1
    )
    assert len(two) == 2
    assert one[0].high is not None
    assert two[0].high is not None
    assert two[0].high > one[0].high
    assert "at c8" in two[1].message


def test_a_load_that_was_not_measured_is_inconclusive(measured: Measured) -> None:
    (found,) = judged(serving.MOST, measured, error_ratio=0.1)
    assert (found.verdict, "unknown for this run" in found.message) == ("inconclusive", True)
    own = replace(measured, result=loaded(measured.result, 100, 100, 100))
    (found,) = judged(serving.REFERENCE, own, error_ratio=0.1)
    assert (found.verdict, "unknown for eager" in found.message) == ("inconclusive", True)


def test_bounds_are_wrong_as_rarely_as_promised(measured: Measured) -> None:
    """Equal shares must not fail against a limit of no difference more often than promised."""
    source, draws, wrong = random.Random(0), 400, 0
    for _ in range(draws):
        mine, theirs = (sum(source.random() < 0.9 for _ in range(200)) for _ in range(2))
        own = replace(
            measured,
            result=loaded(measured.result, 200, mine, mine),
            reference=loaded(measured.reference, 200, theirs, theirs),
        )
        wrong += judged(serving.REFERENCE, own, error_ratio=0.0)[0].verdict == "fail"
    assert wrong / draws <= 0.025 + 3 * (0.025 * 0.975 / draws) ** 0.5


def test_what_a_baseline_keeps(measured: Measured) -> None:
    kept = counts(loaded(measured.result, 10, 9, 7).record)
    assert kept == {"c4": {"error_ratio": (1, 10), "unmet_ratio": (3, 10)}}
    assert serving._KEPT.changes(kept, {"c4": {"error_ratio": (2, 10), "unmet_ratio": (3, 10)}}) == [
        "error_ratio at c4 1 of 10 -> 2 of 10"
    ]
