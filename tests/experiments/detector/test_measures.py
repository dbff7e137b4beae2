"""Measures against scikit-learn, and what holds of each of them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.measures import (
    auc,
    auc_of_columns,
    average_precision,
    best_f1_threshold,
    f1,
    pearson,
    weighted_auc,
    weighted_average_precision,
    weighted_f1,
    weighted_pearson,
)
from runtime_matrix.experiments.detector.scores import Bools, Floats


def drawn(seed: int) -> tuple[Bools, Floats]:
    """Return labels of both classes and scores, with more or fewer ties."""
    generator = np.random.default_rng(seed)
    is_positive = generator.random(int(generator.integers(4, 80))) < generator.uniform(0.1, 0.9)
    is_positive[:2] = True, False
    digits = int(generator.integers(0, 4))
    scores: Floats = generator.normal(size=len(is_positive)) + is_positive * generator.uniform(-1, 2)
    return is_positive, np.array([round(score, digits) for score in scores.tolist()])


@pytest.mark.parametrize("seed", range(20))
def test_measures_are_those_of_scikit_learn(seed: int) -> None:
    is_positive, scores = drawn(seed)
    assert auc(is_positive, scores) == pytest.approx(metrics.roc_auc_score(is_positive, scores))
    expected = metrics.average_precision_score(is_positive, scores)
    assert average_precision(is_positive, scores) == pytest.approx(expected)
    assert f1(is_positive, scores > 0.5) == pytest.approx(metrics.f1_score(is_positive, scores > 0.5))
    if np.ptp(scores):
        assert pearson(is_positive, scores) == pytest.approx(np.corrcoef(is_positive, scores)[0, 1])


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_that_of_the_precision_recall_curve(seed: int) -> None:
    is_positive, scores = drawn(seed)
    precision, recall, thresholds = metrics.precision_recall_curve(is_positive, scores)
    of_curve = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
    threshold = best_f1_threshold(is_positive, scores)
    assert threshold == thresholds[np.flatnonzero(np.isclose(of_curve, of_curve.max(), rtol=1e-9))[0]]
    assert f1(is_positive, scores >= threshold) == pytest.approx(of_curve.max())


@pytest.mark.parametrize("seed", range(5))
def test_weights_repeat_items(seed: int) -> None:
    is_positive, scores = drawn(seed)
    counts = np.random.default_rng(seed).integers(0, 4, size=(3, len(scores)))
    counts[:, :2] = 1  # both classes
    values = {
        weighted_auc: (auc, scores),
        weighted_average_precision: (average_precision, scores),
        weighted_f1: (f1, (scores > 0).astype(float)),
        weighted_pearson: (pearson, scores),
    }
    for weighted, (plain, of) in values.items():
        expected = [plain(np.repeat(is_positive, row), np.repeat(of, row)) for row in counts]  # type: ignore[operator]
        assert weighted(is_positive, of, counts.astype(float)) == pytest.approx(expected)


def test_the_auc_of_columns_is_that_of_each() -> None:
    is_positive, _ = drawn(1)
    scores_RC = np.round(np.random.default_rng(2).normal(size=(len(is_positive), 7)), 1)
    assert auc_of_columns(is_positive, scores_RC) == pytest.approx([auc(is_positive, one) for one in scores_RC.T])


@pytest.mark.parametrize("seed", range(10))
def test_auc_is_of_ranks(seed: int) -> None:
    is_positive, scores = drawn(seed)
    value = auc(is_positive, scores)
    assert auc(is_positive, np.exp(scores / 2) * 3 - 7) == pytest.approx(value)
    assert auc(is_positive, -scores) == pytest.approx(1 - value)
    assert auc(~is_positive, -scores) == pytest.approx(value)


def test_equal_scores_tell_nothing() -> None:
    is_positive, scores = np.array([True, False, False, True]), np.ones(4)
    assert auc(is_positive, scores) == 0.5
    assert average_precision(is_positive, scores) == 0.5
    assert pearson(is_positive, scores) is None


def test_labels_of_one_class_and_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DetectionError, match="all 3 labels are of one class"):
        auc(np.ones(3, dtype=bool), np.zeros(3))
    with pytest.raises(DetectionError, match="not finite"):
        auc(np.array([True, False]), np.array([1.0, np.nan]))


def test_a_replicate_of_one_class_has_no_value() -> None:
    is_positive, scores = np.array([True, False]), np.array([1.0, 0.0])
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    assert np.isnan(weighted_auc(is_positive, scores, weights)).tolist() == [False, True, True]
    assert np.isnan(weighted_average_precision(is_positive, scores, weights)).tolist() == [False, False, True]
    assert np.isnan(weighted_pearson(is_positive, scores, weights)).tolist() == [False, True, True]
