from __future__ import annotations

import math
import random
from functools import partial

import numpy as np
import pytest

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import difference_of_means
from runtime_matrix.experiments.statistics.sequential import Look, Rule, judge, look

RULE = Rule(math.log1p(0.02), math.log1p(0.05), (6, 10, 15, 20))


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (Interval(0.06, 0.03, 0.09, 0.98), "fail"),  # more than is indifferent
        (Interval(0.025, 0.01, 0.04, 0.98), "pass"),  # less than must be found
        (Interval(0.03, 0.022, 0.038, 0.98), "pass"),  # both are shown: the estimate is nearer to what is indifferent
        (Interval(0.04, 0.032, 0.047, 0.98), "fail"),  # both, and nearer to what must be found
        (Interval(0.0, -0.06, 0.06, 0.98), "inconclusive"),
        (Interval(0.05, 0.01, 0.09, 0.98), "inconclusive"),  # slower, not shown to be so by more than 2 %
        (Interval(-0.3, -0.4, -0.2, 0.98), "pass"),
        (None, "inconclusive"),
    ],
)
def test_a_verdict_follows_from_the_interval(loss: Interval | None, verdict: str) -> None:
    assert judge(loss, RULE) == verdict


def test_the_first_look_with_a_verdict_ends_the_test() -> None:
    quiet = [0.001, -0.001] * 10
    seen = look(quiet, RULE)
    assert (seen.verdict, seen.launches) == ("pass", 6)
    assert seen.loss is not None
    assert seen.loss.estimate == pytest.approx(0)
    assert look(quiet[:5], RULE) == Look("inconclusive", None, 5)
    late = [0.2, -0.2, 0.1, -0.1, 0.15, -0.15] + [0.06] * 14
    assert look(late, RULE).verdict == "inconclusive"
    assert look(late, RULE).launches == 20


def test_looks_share_the_error() -> None:
    errors = [(1 - RULE.two_sided(place)) / 2 for place in range(4)]
    assert errors == sorted(errors)
    assert sum(errors) == pytest.approx(1 - RULE.level)


def simulated(true_loss: float, noise: float, runs: int = 1000, build: float = 0.0) -> dict[str, float]:
    drawn = np.random.default_rng(3)
    seen = []
    for _ in range(runs):
        centre = true_loss + drawn.normal(0, build * math.sqrt(2))  # the builds of both cells
        seen.append(look(drawn.normal(centre, noise, 20).tolist(), RULE).verdict)
    return {verdict: seen.count(verdict) / runs for verdict in ("pass", "fail", "inconclusive")}


@pytest.mark.parametrize("noise", [0.01, 0.02])
def test_equal_cells_pass_indifferent_losses_rarely_fail_and_large_losses_are_found(noise: float) -> None:
    assert simulated(0.0, noise)["fail"] <= 0.001
    assert simulated(math.log1p(0.02), noise)["fail"] <= 0.01
    slow = simulated(math.log1p(0.05), noise)
    assert slow["fail"] >= 0.95
    assert slow["pass"] <= 0.01
    assert simulated(0.0, noise, build=0.01)["fail"] ** 2 <= 0.001  # a fail is confirmed by builds of its own


def test_too_much_noise_is_inconclusive() -> None:
    loud = simulated(0.0, 0.2)
    assert loud["inconclusive"] > 0.9
    assert loud["fail"] <= 0.01


def test_the_noise_of_a_baseline_counts() -> None:
    drawn = random.Random(4)
    earlier = [drawn.gauss(0.0, 0.05) for _ in range(6)]
    against: partial[Interval | None] = partial(lambda values, level: difference_of_means(values, earlier, level))
    alone, together = look([0.03] * 20, RULE).loss, look([0.03] * 20, RULE, against).loss
    assert alone is not None
    assert together is not None
    assert together.half_width > alone.half_width
