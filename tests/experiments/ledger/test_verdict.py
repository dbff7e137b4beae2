"""The rules of verdicts, each at its edge."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_matrix.experiments.ledger.claim import Claim, MeasuredBy
from runtime_matrix.experiments.ledger.verdict import Measured, Verdict, verdict


def claim(low: float | None, high: float | None, direction: Any = "gain", **more: Any) -> Claim:
    unit = {"unit": "h"} if direction == "level" else {}
    by = MeasuredBy(switch="overlap")
    return Claim(
        **{
            **{"id": "x", "section": "1", "summary": "s", "quantity": "time", "direction": direction, "low": low},
            **{"high": high, "measured_by": by, **unit, **more},
        }
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (2.0, 3.0, "holds"),
        (3.0, 4.0, "holds"),  # they meet at one end
        (1.2, 2.0, "holds"),
        (3.01, 4.0, "more"),
        (1.2, 1.99, "less"),
        (0.9, 1.99, "less"),
        (0.9, 2.1, "unclear"),
        (0.5, 0.99, "opposite"),
        (0.5, 1.0, "less"),  # 1 is no effect, and not the opposite
    ],
)
def test_a_gain_of_2_to_3(low: float, high: float, expected: Verdict) -> None:
    assert verdict(claim(2, 3), Measured((low + high) / 2, low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.75, 0.85, "holds"),
        (0.5, 0.69, "more"),  # a larger loss
        (0.95, 1.0, "less"),
        (0.85, 1.1, "unclear"),
        (1.01, 1.2, "opposite"),
    ],
)
def test_a_loss_to_0_7_to_0_9(low: float, high: float, expected: Verdict) -> None:
    assert verdict(claim(0.7, 0.9, "loss"), Measured((low + high) / 2, low, high)) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.9, 1.1, "holds"), (1.1, 1.2, "more"), (0.8, 0.9, "less")])
def test_no_change(low: float, high: float, expected: Verdict) -> None:
    assert verdict(claim(1, 1, "none"), Measured(1, low, high)) == expected


def test_open_ends_and_gains_from_1() -> None:
    assert verdict(claim(2, None), Measured(50, 40, 60)) == "holds"
    assert verdict(claim(2, None), Measured(1.5, 1.2, 1.8)) == "less"
    assert verdict(claim(1, 1.3), Measured(1.1, 0.9, 1.2)) == "holds"  # it includes no effect
    assert verdict(claim(0.5, 0.75, "level"), Measured(1, None, None)) == "more"
    assert verdict(claim(None, 0.75, "level"), Measured(0.1, None, None)) == "holds"


def test_what_comes_before_the_figures() -> None:
    holds = Measured(2.5, 2.4, 2.6)
    assert verdict(claim(2, 3), None) == "unmeasured"
    assert verdict(claim(2, 3, other_baseline="a CPU"), holds) == "other baseline"
    assert verdict(claim(2, 3, other_baseline="a CPU"), None) == "unmeasured"
    assert verdict(claim(None, None, claimed="instant"), holds) == "no figure"
