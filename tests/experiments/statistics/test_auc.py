"""The AUC as a mean over items, against scikit-learn, and the coverage of its paired interval."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime_matrix.experiments.detector.bootstrap import auc_difference
from runtime_matrix.experiments.records.item import Item
from runtime_matrix.experiments.statistics.auc import linear_auc
from runtime_matrix.experiments.tasks.score_kinds import AUC, Scored

Floats = NDArray[np.float64]
FOLDS = [0, 1] * 30
LABELS = [index % 3 == 0 for index in range(60)]


def drawn(seed: int, n: int = 60, gap: float = 1.0, noise: float = 0.5) -> tuple[Floats, Floats]:
    """Return the scores of two cells for the same items, with labels as in LABELS."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=n) + gap * np.array([index % 3 == 0 for index in range(n)])
    return shared + noise * generator.normal(size=n), shared + noise * generator.normal(size=n)


def scored(values: Floats, n: int = 60, sources: int = 60) -> Scored:
    items = [
        Item(id=index, cluster=index % sources, worth=float(value), is_unsupported=index % 3 == 0, fold=index % 2)
        for index, value in enumerate(values)
    ]
    assert len(items) == n
    return AUC.scored(items, "response_score")


def test_the_mean_is_the_mean_auc_of_the_folds() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    values = np.round(drawn(0)[0], 1)  # with ties
    expected = [metrics.roc_auc_score(LABELS[fold::2], values[fold::2]) for fold in (0, 1)]
    assert np.mean(linear_auc(LABELS, values.tolist(), FOLDS).values) == pytest.approx(np.mean(expected))
    assert np.mean(linear_auc(LABELS, values.tolist(), [0] * 60).values) == pytest.approx(
        metrics.roc_auc_score(LABELS, values)
    )


def test_the_variance_is_that_of_delong() -> None:
    """For scores in one fold: var(V10) / m + var(V01) / n, with placements counted directly."""
    values = drawn(1)[0]
    positive, negative = values[np.array(LABELS)], values[~np.array(LABELS)]
    wins = positive[:, None] > negative[None, :]
    expected = np.var(wins.mean(axis=1)) / len(positive) + np.var(wins.mean(axis=0)) / len(negative)
    linear = np.array(linear_auc(LABELS, values.tolist(), [0] * 60).values)
    assert np.var(linear) / len(linear) == pytest.approx(expected)


def test_a_fold_of_one_class_and_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="the fold 1 are of one class"):
        linear_auc([True, False, True], [1.0, 2.0, 3.0], [0, 0, 1])
    with pytest.raises(ValueError, match="not finite"):
        linear_auc([True, False], [1.0, float("nan")], [0, 0])


def test_equal_scores_lose_nothing_and_the_bounds_are_not_zero() -> None:
    one = scored(drawn(2)[0])
    interval = AUC.loss(one, one)
    assert interval is not None
    assert interval.estimate == 0
    assert 0.02 < interval.high < 0.4
    assert interval.low == pytest.approx(-interval.high)
    needed = AUC.items_needed(one, one, 0.95, 0.01)
    assert needed is not None
    assert needed > 60


def test_the_interval_agrees_with_a_bootstrap_where_many_items_differ() -> None:
    n = 600
    first, second = drawn(3, n)
    interval = AUC.loss(scored(second, n, 300), scored(first, n, 300))
    labels, folds = np.array([index % 3 == 0 for index in range(n)]), np.array([index % 2 for index in range(n)])
    other = auc_difference(labels, first, second, folds, 0, [str(index % 300) for index in range(n)])
    assert interval is not None
    assert interval.estimate == pytest.approx(other.estimate)
    assert interval.half_width >= 0.9 * other.half_width
    assert interval.half_width == pytest.approx(other.half_width, rel=0.35)


def test_the_interval_covers_the_true_difference() -> None:
    """Both cells draw from the same distribution, so the true difference is 0."""
    missed = 0
    for seed in range(200):
        first, second = drawn(seed, 90)
        interval = AUC.loss(scored(second, 90, 90), scored(first, 90, 90))
        assert interval is not None
        missed += not interval.low <= 0 <= interval.high
    assert missed <= 18  # 5 % of 200 are 10, and 18 or fewer have a probability of 99 %
