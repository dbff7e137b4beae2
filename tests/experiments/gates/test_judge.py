"""What is judged together: all limits, cells that were not measured, and a fail that is repeated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.judge import findings, overall
from runtime_matrix.experiments.gates.measure import confirmed
from runtime_matrix.experiments.records.audit import Rest, TimedAudit
from tests.experiments.gates.judged import LIMITS, baseline, changed, found, gate


def test_limits_that_hold_pass(measured: Measured) -> None:
    seen = found(replace(measured, baseline=baseline()))
    assert {finding.verdict for finding in seen.values()} == {"pass"}, seen
    assert len(seen) == 3 + 4 + 1 + 4 + 2 + 2 + 1 + 3
    assert overall(list(seen.values())) == "pass"


@pytest.mark.parametrize(
    ("status", "verdict"), [("unsupported", "inconclusive"), ("crash", "fail"), ("timeout", "fail")]
)
def test_a_cell_that_was_not_measured_never_passes(measured: Measured, status: str, verdict: str) -> None:
    (seen,) = findings(changed(measured, status=status, reason="why it was not"), LIMITS, 0.99)
    assert (seen.verdict, seen.name) == (verdict, "cell")
    assert "why it was not" in seen.message
    assert overall([seen]) == verdict


def test_a_cell_that_fails_its_audit_passes_no_gate(measured: Measured) -> None:
    speed = measured.result.speed
    assert speed is not None
    evidence = TimedAudit(rest=Rest(wall_s=1.0, cpu_s=0.5))
    busy = [structs.replace(launch, audit=evidence) for launch in speed.launches]
    failed = replace(measured, result=replace(measured.result, speed=structs.replace(speed, launches=busy)))
    for limits in (LIMITS, gate("reference.outputs=[]")):
        seen = findings(failed, limits, 0.99)
        (text,) = [finding.figures for finding in seen if finding.verdict == "fail"]
        assert text.startswith("invalid timing: computed for 10.00 s within 20.0 s after its last rounds")
    assert [finding.name for finding in seen if finding.verdict == "fail"] == ["audit"]


def test_nothing_judged_is_inconclusive() -> None:
    assert overall([]) == "inconclusive"


def test_a_fail_counts_if_the_repetition_fails_too() -> None:
    first = [
        LimitResult("c", "a", "fail", "a: 9 % too slow"),
        LimitResult("c", "b", "pass", "b"),
        LimitResult("c", "z", "fail", "z"),
    ]
    second = [
        LimitResult("c", "a", "fail", "a: 8 % too slow"),
        LimitResult("c", "b", "fail", "b"),
        LimitResult("c", "z", "pass", "ok"),
    ]
    seen = {one.name: one for one in confirmed(first, second)}
    assert [seen[name].verdict for name in "abz"] == ["fail", "pass", "pass"]
    assert "failed twice" in seen["a"].message
    assert "9 % too slow" in seen["a"].message
    assert "failed once, but not when repeated" in seen["z"].message
    missing = confirmed([LimitResult("c", "cell", "fail", "crash")], [LimitResult("c", "a", "pass", "a")])
    assert overall(missing) == "inconclusive"
