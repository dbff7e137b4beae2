from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from experiments.measurement.paired import (
    Interval,
    calibration_error,
    difference_of_means,
    exact_proportion,
    holm,
    launch_log_ratio,
    loss,
    mcnemar_mid_p,
    mean_interval,
    paired_difference,
)


def test_zero_flips_in_200_items_leave_one_and_a_half_points_open() -> None:
    found = exact_proportion(0, 200)
    assert (found.low, found.estimate) == (0.0, 0.0)
    assert found.high == pytest.approx(0.01487, abs=1e-4)
    assert exact_proportion(200, 200).low == pytest.approx(1 - found.high)


@pytest.mark.parametrize(("successes", "n"), [(1, 20), (37, 80), (999, 1000)])
def test_exact_intervals_are_scipy_s(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    found = exact_proportion(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="3 successes of 2"):
        exact_proportion(3, 2)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (1, 8), (8, 1), (40, 70), (900, 1000)])
def test_mcnemar_mid_p(first: int, second: int) -> None:
    n, fewer = first + second, min(first, second)
    exact = min(1.0, 2 * stats.binom.cdf(fewer, n, 0.5)) if n else 1.0
    expected = 1.0 if n == 0 else exact - stats.binom.pmf(fewer, n, 0.5)
    if n and first == second:
        expected = 1 - stats.binom.pmf(fewer, n, 0.5)
    assert mcnemar_mid_p(first, second) == pytest.approx(expected, abs=1e-9)


def test_mean_interval_covers_as_often_as_it_says() -> None:
    drawn = random.Random(1)
    hits = 0
    for _ in range(2000):
        found = mean_interval([drawn.gauss(0.1, 1.0) for _ in range(8)])
        assert found is not None
        hits += found.low <= 0.1 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
    assert mean_interval([1.0]) is None


def test_the_ratio_of_a_launch_ignores_what_a_busy_machine_adds() -> None:
    reference = [1.0] * 30 + [9.0] * 10
    assert launch_log_ratio([2.0] * 30 + [50.0] * 10, reference) == pytest.approx(math.log(2))


def test_clusters_widen_the_interval_of_items_that_share_their_fate() -> None:
    drawn = np.random.default_rng(0)
    fates = np.repeat(drawn.integers(0, 2, 40), 10)
    clusters = np.repeat(np.arange(40), 10).tolist()
    alone = paired_difference(fates.tolist(), [0] * 400)
    together = paired_difference(fates.tolist(), [0] * 400, clusters)
    assert alone is not None
    assert together is not None
    assert together.estimate == alone.estimate
    assert together.half_width > 2.5 * alone.half_width
    assert paired_difference([1, 0], [0, 0], ["a", "a"]) is None


def test_nothing_lost_in_200_items_is_not_nothing_to_lose() -> None:
    same = [1.0, 0.0] * 100
    found = loss(same, same)
    assert found is not None
    assert found.estimate == 0
    assert found.high == pytest.approx(exact_proportion(0, 200).high)
    assert loss(same, same, is_share=False) == Interval(0, 0, 0, 0.95)


def test_a_loss_is_the_reference_s_lead() -> None:
    drawn = np.random.default_rng(0)
    reference = drawn.integers(0, 2, 1000)
    candidate = np.where(drawn.random(1000) < 0.1, 0, reference)
    found, difference = (
        loss(candidate.tolist(), reference.tolist()),
        paired_difference(candidate.tolist(), reference.tolist()),
    )
    assert found is not None
    assert difference is not None
    assert (found.low, found.estimate, found.high) == (-difference.high, -difference.estimate, -difference.low)
    assert found.low > 0


def test_welch_is_scipy_s() -> None:
    drawn = np.random.default_rng(0)
    first, second = drawn.normal(1.0, 2.0, 9).tolist(), drawn.normal(0.0, 0.5, 20).tolist()
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    found = difference_of_means(first, second, 0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert difference_of_means([1.0], second) is None


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_calibration_error() -> None:
    assert calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0)
    assert calibration_error([0.95, 0.15], [False, False]) == pytest.approx(0.55)
