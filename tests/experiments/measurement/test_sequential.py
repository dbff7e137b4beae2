from __future__ import annotations

import random
from functools import partial

import pytest

from experiments.measurement.paired import Interval, difference_of_means
from experiments.measurement.sequential import Look, Rule, judge, look

RULE = Rule(0.04, (6, 10, 15, 20))


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (Interval(0.05, 0.04, 0.06, 0.98), "fail"),
        (Interval(0.01, 0.005, 0.015, 0.98), "pass"),  # real, and within what is tolerated
        (Interval(0.0, -0.05, 0.05, 0.98), "inconclusive"),
        (Interval(0.05, -0.01, 0.11, 0.98), "inconclusive"),
        (Interval(-0.3, -0.4, -0.2, 0.98), "pass"),
        (None, "inconclusive"),
    ],
)
def test_bound_and_estimate_must_agree(loss: Interval | None, verdict: str) -> None:
    assert judge(loss, 0.04) == verdict


def test_the_first_look_that_can_tell_ends_it() -> None:
    quiet = [0.001, -0.001] * 10
    seen = look(quiet, RULE)
    assert (seen.verdict, seen.launches) == ("pass", 6)
    assert seen.loss is not None
    assert seen.loss.estimate == pytest.approx(0)
    assert look(quiet[:5], RULE) == Look("inconclusive", None, 5)
    late = [0.2, -0.2, 0.1, -0.1, 0.15, -0.15] + [0.06] * 14
    assert look(late, RULE).verdict == "inconclusive"
    assert look(late, RULE).launches == 20


def simulated(true_loss: float, noise: float, runs: int = 2000) -> dict[str, float]:
    drawn = random.Random(3)
    seen = [look([drawn.gauss(true_loss, noise) for _ in range(20)], RULE).verdict for _ in range(runs)]
    return {verdict: seen.count(verdict) / runs for verdict in ("pass", "fail", "inconclusive")}


def test_noise_makes_it_inconclusive_and_not_wrong() -> None:
    quiet, slow = simulated(0.0, 0.015), simulated(0.05, 0.015)
    assert quiet["fail"] <= 0.01
    assert slow["fail"] >= 0.98
    assert slow["pass"] <= 0.005
    loud = simulated(0.0, 0.2)
    assert loud["inconclusive"] > 0.9
    assert loud["fail"] <= 0.015


def test_a_baseline_s_own_noise_counts() -> None:
    drawn = random.Random(4)
    earlier = [drawn.gauss(0.0, 0.05) for _ in range(6)]
    against: partial[Interval | None] = partial(lambda values, level: difference_of_means(values, earlier, level))
    alone, together = look([0.03] * 20, RULE).loss, look([0.03] * 20, RULE, against).loss
    assert alone is not None
    assert together is not None
    assert together.half_width > alone.half_width
