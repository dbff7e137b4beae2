from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import (
    calibration_error,
    difference_of_means,
    holm,
    items_needed,
    lag_1,
    launch_log_ratio,
    loss,
    mean_interval,
    paired_difference,
)
from runtime_matrix.experiments.statistics.shares import exact_proportion


def test_mean_interval_covers_at_its_level() -> None:
    drawn = random.Random(1)
    hits = 0
    for _ in range(2000):
        found = mean_interval([drawn.gauss(0.1, 1.0) for _ in range(8)])
        assert found is not None
        hits += found.low <= 0.1 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
    assert mean_interval([1.0]) is None


def test_the_ratio_of_a_launch_ignores_disturbances_of_the_machine() -> None:
    reference = [1.0] * 30 + [9.0] * 10
    assert launch_log_ratio([2.0] * 30 + [50.0] * 10, reference) == pytest.approx(math.log(2))


def test_clusters_widen_the_interval_of_dependent_items() -> None:
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


def test_no_loss_in_200_items_leaves_a_bound_above_0() -> None:
    same = [1.0, 0.0] * 100
    found = loss(same, same)
    assert found is not None
    assert found.estimate == 0
    assert found.high >= exact_proportion(0, 200).high
    assert loss(same, same, is_share=False) == Interval(0, 0, 0, 0.95)


def test_a_loss_is_reference_minus_candidate() -> None:
    drawn = np.random.default_rng(0)
    reference = drawn.integers(0, 2, 1000)
    candidate = np.where(drawn.random(1000) < 0.1, 0, reference)
    found = loss(candidate.tolist(), reference.tolist())
    assert found is not None
    assert found.low > 0
    assert found.estimate == pytest.approx(float(np.mean(reference - candidate)))
    assert loss(reference.tolist(), candidate.tolist()) == found.negated()


def test_items_of_one_passage_count_as_one_item() -> None:
    """Ten questions a passage, all of them lost together: 40 passages know no more than 40 questions."""
    drawn = np.random.default_rng(0)
    fates = np.repeat(drawn.random(40) < 0.1, 10).astype(float)
    clusters = np.repeat(np.arange(40), 10).tolist()
    reference = [1.0] * 400
    alone, together = loss((1 - fates).tolist(), reference), loss((1 - fates).tolist(), reference, clusters)
    unharmed = loss(reference, reference, clusters)
    assert alone is not None
    assert together is not None
    assert unharmed is not None
    assert together.half_width > 2 * alone.half_width
    assert unharmed.high > exact_proportion(0, 40).high


def test_texts_that_rarely_differ_have_a_useful_bound() -> None:
    """Of 60 summaries of which 7 differed the bound was 26.6 points, though each differed by some points only."""
    drawn = np.random.default_rng(0)
    reference = np.full(60, 0.9)
    candidate = reference - np.where(np.arange(60) < 7, drawn.exponential(0.1, 60), 0)
    found = loss(candidate.tolist(), reference.tolist())
    assert found is not None
    assert found.high < 0.1


def test_the_items_needed_are_sufficient() -> None:
    reference = [1.0] * 100
    needed = items_needed(reference, reference, None, 0.9857, True, 0.03)
    assert needed is not None
    for n, tells in ((needed, True), (round(0.95 * needed), False)):
        found = loss([1.0] * n, [1.0] * n, None, 0.9857)
        assert found is not None
        assert (found.high < 0.03) is tells
    worse = [1.0] * 90 + [0.0] * 10
    assert items_needed(worse, reference, None, 0.9857, True, 0.03) is None


def test_lag_1_is_detected_only_where_it_exists() -> None:
    drawn = np.random.default_rng(0)
    seen = {0.0: 0, 0.8: 0}
    for correlation in seen:
        for _ in range(200):
            values = [drawn.normal()]
            for _ in range(29):
                values.append(correlation * values[-1] + drawn.normal())
            found = lag_1(values)
            assert found is not None
            seen[correlation] += found.low > 0
    assert seen[0.0] <= 10
    assert seen[0.8] >= 180
    assert lag_1([1.0, 1.0, 1.0, 1.0]) is None


def test_welch_equals_scipy() -> None:
    drawn = np.random.default_rng(0)
    first, second = drawn.normal(1.0, 2.0, 9).tolist(), drawn.normal(0.0, 0.5, 20).tolist()
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    found = difference_of_means(first, second, 0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert difference_of_means([1.0], second) is None


def test_holm_adjusts_p_values() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_calibration_error_of_known_bins() -> None:
    assert calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0)
    assert calibration_error([0.95, 0.15], [False, False]) == pytest.approx(0.55)
