"""Measures of how well scores tell two classes apart: AUC, average precision, F1 and Pearson's correlation.

Each has a form with weights, which a bootstrap needs: a row of weights is one replicate, and says how often each item
was drawn. B replicates, R items (responses or chunks), G groups of equal scores, C columns of scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.scores import Bools, Floats

DIGITS = 12  # of scores and AUCs, so that the order of summation does not decide between equal ones
_CELLS = 2**21  # numbers ranked at once, 16 MiB
Measure = Callable[[Bools, Floats, Floats], Floats]  # of classes (R), scores (R) and weights (B, R): values (B)


def auc(is_positive: Bools, scores: Floats) -> float:
    """Return the area under the ROC curve: the share of pairs in which the positive scores higher; ties count half."""
    return _unweighted(weighted_auc, is_positive, scores)


def average_precision(is_positive: Bools, scores: Floats) -> float:
    """Return the mean precision over recall, without interpolation."""
    return _unweighted(weighted_average_precision, is_positive, scores)


def f1(is_positive: Bools, predictions: Bools) -> float:
    """Return the harmonic mean of precision and recall of predictions."""
    return _unweighted(weighted_f1, is_positive, np.asarray(predictions, dtype=float))


def pearson(is_positive: Bools, scores: Floats) -> float | None:
    """Return Pearson's correlation of scores and labels; None if all scores are equal."""
    value = _unweighted(weighted_pearson, is_positive, scores)
    return None if np.isnan(value) else value


def auc_of_columns(is_positive_R: Bools, scores_RC: Floats) -> Floats:
    """Return the AUC of each column."""
    from scipy.stats import rankdata  # takes a second to import

    positives = int(is_positive_R.sum())
    pairs = positives * (len(is_positive_R) - positives)
    width = max(1, _CELLS // len(scores_RC))
    blocks = [scores_RC[:, at : at + width] for at in range(0, scores_RC.shape[1], width)]
    sums_C: Floats = np.concatenate([rankdata(block, axis=0)[is_positive_R].sum(axis=0) for block in blocks])
    return (sums_C - positives * (positives + 1) / 2) / pairs


def weighted_auc(is_positive_R: Bools, scores_R: Floats, weights_BR: Floats) -> Floats:
    """Return the AUC of each replicate (B); NaN for a replicate of one class."""
    positive_BG, negative_BG = _groups(is_positive_R, scores_R, weights_BR)
    below_BG = np.cumsum(negative_BG, axis=1) - negative_BG / 2  # ties count half
    pairs_B = positive_BG.sum(axis=1) * negative_BG.sum(axis=1)
    return _ratio((positive_BG * below_BG).sum(axis=1), pairs_B)


def weighted_average_precision(is_positive_R: Bools, scores_R: Floats, weights_BR: Floats) -> Floats:
    """Return the average precision of each replicate (B); NaN for a replicate without positives."""
    positive_BG, negative_BG = _groups(is_positive_R, -scores_R, weights_BR)
    found_BG = np.cumsum(positive_BG, axis=1)
    precision_BG = _ratio(found_BG, found_BG + np.cumsum(negative_BG, axis=1))
    sums_B: Floats = np.where(positive_BG > 0, positive_BG * precision_BG, 0.0).sum(axis=1)
    return _ratio(sums_B, found_BG[:, -1])


def weighted_f1(is_positive_R: Bools, predictions_R: Floats, weights_BR: Floats) -> Floats:
    """Return F1 of predictions (0 or 1) of each replicate (B); NaN for a replicate without any positive."""
    found_B: Floats = weights_BR @ (predictions_R * is_positive_R)
    return _ratio(2 * found_B, weights_BR @ (predictions_R + is_positive_R))


def weighted_pearson(is_positive_R: Bools, scores_R: Floats, weights_BR: Floats) -> Floats:
    """Return Pearson's correlation of each replicate (B); NaN for one of equal scores or one class."""
    if np.ptp(scores_R) == 0:
        return np.full(len(weights_BR), np.nan)
    scaled_R = (scores_R - scores_R.mean()) / np.ptp(scores_R)  # far from rounding errors
    total_B = weights_BR.sum(axis=1)
    share_B, mean_B = _ratio(weights_BR @ is_positive_R, total_B), _ratio(weights_BR @ scaled_R, total_B)
    covariance_B = _ratio(weights_BR @ (scaled_R * is_positive_R), total_B) - share_B * mean_B
    variance_B = np.maximum(_ratio(weights_BR @ scaled_R**2, total_B) - mean_B**2, 0.0)
    return _ratio(covariance_B, np.sqrt(variance_B * share_B * (1 - share_B)))


def best_f1_threshold(is_positive_R: Bools, scores_R: Floats) -> float:
    """Return the score at and above which predicting "positive" has the best F1; of several, the lowest."""
    ones_1R = np.ones((1, len(scores_R)))
    positive_1G, negative_1G = _groups(is_positive_R, -scores_R, ones_1R)
    found_G, predicted_G = np.cumsum(positive_1G), np.cumsum(positive_1G + negative_1G)
    f1_G = 2 * found_G / (predicted_G + positive_1G.sum())
    best = len(f1_G) - 1 - int(np.argmax(f1_G[::-1]))  # scores fall with G
    return float(np.unique(scores_R)[::-1][best])


def _unweighted(measure: Measure, is_positive: Bools, scores: Floats) -> float:
    positive_R, scores_R = np.asarray(is_positive, dtype=bool), np.asarray(scores, dtype=float)
    if not np.isfinite(scores_R).all():
        raise DetectionError("some scores are not finite")
    if not 0 < positive_R.sum() < len(positive_R):
        raise DetectionError(f"all {len(positive_R)} labels are of one class")
    return float(measure(positive_R, scores_R, np.ones((1, len(scores_R))))[0])


def _groups(is_positive_R: Bools, scores_R: Floats, weights_BR: Floats) -> tuple[Floats, Floats]:
    """Return the weights of positives and of negatives (B, G) by groups of equal scores, in rising order."""
    order = np.argsort(scores_R, kind="stable")
    sorted_R, positive_R = scores_R[order], is_positive_R[order]
    starts_G = np.flatnonzero(np.concatenate(([True], sorted_R[1:] != sorted_R[:-1])))
    weights_BR = weights_BR[:, order]
    positive_BG = np.add.reduceat(weights_BR * positive_R, starts_G, axis=1)
    return positive_BG, np.add.reduceat(weights_BR, starts_G, axis=1) - positive_BG


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
