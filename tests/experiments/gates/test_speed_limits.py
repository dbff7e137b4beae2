"""Speed: losses found and not found, by the right clock, and what a gate says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime_matrix.experiments.gates.findings import Measured
from tests.experiments.gates.judged import LIMITS, found, record, speed


def test_speed_that_is_lost_fails_and_says_by_how_much(measured: Measured) -> None:
    seen = found(replace(measured, record=record("mine", slower=0.08)))["reference.speedup.decode"]
    assert seen.verdict == "fail"
    assert "8.0 % too slow [" in seen.message
    assert "profile decode" in seen.message
    assert "gate.reference.speedup.decode=" in seen.message
    assert seen.value == pytest.approx(1 / 1.08, rel=0.01)


def test_a_speed_that_was_promised_is_held_to(measured: Measured) -> None:
    limits = replace(LIMITS, reference=replace(LIMITS.reference, speedup={"decode": 2.0}))
    twice = replace(measured, record=record("mine", slower=-0.5))
    assert found(twice, limits)["reference.speedup.decode"].verdict == "pass"
    assert found(measured, limits)["reference.speedup.decode"].verdict == "fail"


def test_a_message_says_what_was_shown(measured: Measured) -> None:
    """W5 of the audit: a gate of one number, 4 %, failed at 3 % and said "within 4 %"."""
    said = {}
    for slower in (0.0, 0.03, 0.04, 0.08):
        seen = found(replace(measured, record=record("mine", slower=slower)))["reference.speedup.decode"]
        said[slower] = (seen.verdict, seen.message)
    assert said[0.0][0] == "pass"
    assert "shown to lose less than 5 %" in said[0.0][1]
    assert said[0.03][0] == "pass"
    assert said[0.04][0] == "fail"
    assert "too slow [" in said[0.08][1]
    assert "more than the indifferent 2 %; profile decode" in said[0.08][1]


def test_noise_that_hides_the_difference_is_inconclusive(measured: Measured) -> None:
    noisy = record("mine") | {"speed": speed(0.0, noise=0.3)}
    seen = found(replace(measured, record=noisy))["reference.speedup.decode"]
    assert seen.verdict == "inconclusive"
    assert "neither shown to lose more than 2 % nor less than 5 %" in seen.message
    assert "a quieter machine, more gate.looks or a wider gate.must_find" in seen.message


def test_a_cell_that_waits_is_judged_by_wall_time(measured: Measured) -> None:
    waiting = speed(0.0)
    for launch in waiting["launches"]:
        times = launch["own"]["candidate"]["decode"]
        slow = launch["one_thread"]["candidate"] | {"decode": times | {"wall_s": [2 * s for s in times["wall_s"]]}}
        launch["one_thread"] = launch["one_thread"] | {"candidate": slow}
    seen = found(replace(measured, record=record("mine", speed=waiting)))["reference.cpu_speedup.decode"]
    assert seen.verdict == "fail"
    assert "wall time of one thread (it is not bound by its CPU time)" in seen.message


def test_a_limit_far_below_what_is_measured_is_warned_of(measured: Measured) -> None:
    seen = found(replace(measured, record=record("mine", slower=-0.68)))["reference.speedup.decode"]
    assert seen.verdict == "pass"
    assert "this limit lets 68 % of the speed be lost: set gate.reference.speedup.decode=3.0" in seen.message
    assert "be lost" not in found(measured)["reference.speedup.decode"].message


def test_no_launches_never_pass(measured: Measured) -> None:
    dead = record("mine") | {"speed": {"launches": [], "reason": "crash: ended with exit code -11"}}
    for one in (record("mine", slower=None), dead):
        seen = found(replace(measured, record=one))["reference.speedup.decode"]
        assert seen.verdict == "inconclusive"
    assert "exit code -11" in seen.message
