"""The table of switches, and the factor of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.validation.ablation import Factor, Switch, measure, write_table
from runtime_matrix.experiments.validation.claims import CLAIMS


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float, answer: Any) -> Any:
        self.now += seconds
        return answer


def measured(on: Any, off: Any) -> Factor:
    clock = FakeClock()
    switch = Switch("x", "k", lambda: clock.work(2.0, on), lambda: clock.work(6.0, off), clock)
    return measure(switch, pairs=3).factor


def test_a_factor_is_of_off_over_on() -> None:
    factor = measured([True], [True])
    assert factor.factor == pytest.approx(3.0)
    assert [factor.low, factor.high] == pytest.approx([3.0, 3.0])


def test_a_switch_that_changes_answers_is_an_error() -> None:
    with pytest.raises(AssertionError, match="the answers differ"):
        measured(["a"], ["b"])
    with pytest.raises(AssertionError, match="scores differ"):
        measured([0.1], [0.2])


def test_the_table_has_claims_and_our_factors(tmp_path: Path) -> None:
    switch = Switch("overlap", "benchmark.code.overlap", lambda: None, lambda: None)
    factors = {"overlap": Factor(factor=1.2, low=1.1, high=1.3, clock="wall")}
    write_table([switch], factors, tmp_path / "ablation.md", "a command")
    row = (tmp_path / "ablation.md").read_text().splitlines()[-1]
    assert "1.20 [1.10, 1.30] | wall | 1.4–1.6× (*Performance & Quality Improvement Strategies*)" in row
    assert all("/" not in claim.split("*")[1] for claim, _ in CLAIMS.values() if claim)
