"""Bounds miss as rarely as they say, at the levels of gates: enumerated for right and wrong, simulated for others."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import special, stats

from runtime_matrix.experiments.statistics.shares import (
    bounded_mean,
    exact_proportion,
    lower_bound,
    mcnemar_mid_p,
    paired_proportions,
    upper_bound,
    wilson_interval,
)

GATE = 1 - 0.05 / 7  # one-sided, as in conf/gate/ci.yaml with one cell
TWO_SIDED = 2 * GATE - 1


@pytest.mark.parametrize("n", [20, 400])
@pytest.mark.parametrize("level", [0.95, TWO_SIDED])
def test_exact_intervals_equal_scipy_at_every_count(n: int, level: float) -> None:
    for successes in (0, 1, n // 3, n - 1, n):
        expected = stats.binomtest(successes, n).proportion_ci(level, "exact")
        found = exact_proportion(successes, n, level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="3 successes of 2"):
        exact_proportion(3, 2)


def test_the_bound_of_0_in_400_items_is_exceeded_as_rarely_as_promised() -> None:
    """The bound was 0.0106, which a share just above leaves at 0 of 400 in 1.4 % of cases instead of 0.7 %."""
    high = exact_proportion(0, 400, TWO_SIDED).high
    assert (1 - high) ** 400 == pytest.approx(1 - GATE)
    assert upper_bound(0, 400, GATE) == pytest.approx(high)
    assert lower_bound(400, 400, GATE) == pytest.approx(1 - high)
    assert upper_bound(0, 200) == pytest.approx(0.01487, abs=1e-4)  # 1 - 0.05 ** (1 / 200)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (1, 1, 0.75), (2, 1, 0.625), (6, 1, 0.0703), (3, 3, 1 - 0.3125 / 2)],
)
def test_mcnemar_mid_p_equals_fagerland(first: int, second: int, p: float) -> None:
    assert mcnemar_mid_p(first, second) == pytest.approx(p, abs=1e-4)
    assert mcnemar_mid_p(second, first) == mcnemar_mid_p(first, second)


def test_mcnemar_mid_p_of_many_items() -> None:
    expected = 2 * stats.binom.cdf(900, 1900, 0.5) - stats.binom.pmf(900, 1900, 0.5)
    assert mcnemar_mid_p(900, 1000) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [400, 1060])
@pytest.mark.parametrize("true_loss", [0.02, 0.03, 0.05])
def test_the_bound_of_a_loss_is_too_low_at_most_as_often_as_promised(n: int, true_loss: float) -> None:
    """By a t interval, which was used from 10 differing items on, it was in up to 2.3 % of cases instead of 0.7 %."""
    for won in (0.0, 0.005, 0.02):
        assert _too_low(n, true_loss + won, won) <= 1 - GATE


def _too_low(n: int, lost: float, won: float) -> float:
    """Return the probability that the bound lies below lost − won, over all counts that are not next to impossible."""
    total = 0.0
    for first in range(int(n * lost + 7 * math.sqrt(n * lost))):
        for second in range(int(n * won + 7 * math.sqrt(n * won)) + 1):
            if first - second < n * (lost - won) and _bound(first, second, n) < lost - won:
                logs = special.gammaln(n + 1) - special.gammaln([first + 1, second + 1, n - first - second + 1]).sum()
                logs += special.xlogy([first, second, n - first - second], [lost, won, 1 - lost - won]).sum()
                total += math.exp(logs)
    return total


@cache
def _bound(first: int, second: int, n: int) -> float:
    return paired_proportions(first, second, n, TWO_SIDED).high


def test_tango_s_interval_equals_its_closed_form() -> None:
    """Nothing differs: z² / (n + z²). Nothing was won: the bound of the loss is Wilson's."""
    z2 = special.ndtri(0.975) ** 2
    nothing = paired_proportions(0, 0, 54)
    assert (nothing.low, nothing.high) == pytest.approx((-z2 / (54 + z2), z2 / (54 + z2)))
    assert paired_proportions(7, 0, 200).high == pytest.approx(wilson_interval(7, 200).high)
    assert paired_proportions(7, 2, 200) == paired_proportions(2, 7, 200).negated()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_bound_of_a_skewed_mean_covers(share: float) -> None:
    """60 summaries, few of which differ, most of them for the worse, some by very much."""
    drawn, missed, missed_by_t = np.random.default_rng(0), 0, 0
    runs, mean = 200, share * 0.8 * 0.25
    for _ in range(runs):
        differs = drawn.random(60) < share
        values = np.where(differs & (drawn.random(60) < 0.8), drawn.beta(0.5, 1.5, 60), 0.0)  # a mean of 0.25
        missed += bounded_mean(values.tolist(), TWO_SIDED).high < mean
        reach = special.stdtrit(59, GATE) * values.std(ddof=1) / math.sqrt(60)
        missed_by_t += values.mean() + reach < mean
    assert missed / runs <= 1 - GATE
    assert missed_by_t > missed


def test_a_mean_without_differences_is_bounded_nearly_like_a_share() -> None:
    assert exact_proportion(0, 60).high < bounded_mean([0.0] * 60).high < 1.2 * exact_proportion(0, 60).high
    assert bounded_mean([0.0] * 30, repeats=2.0) == bounded_mean([0.0] * 60)
    assert bounded_mean([1.0] * 10).high == pytest.approx(1.0)


def test_wilson_s_interval_of_0_successes_has_a_width() -> None:
    found = wilson_interval(0, 200)
    assert found.low == 0.0
    assert found.high == pytest.approx(0.0188, abs=1e-3)
