"""The area under the ROC curve as a mean of one value per item, so that paired differences have an interval.

Source: DeLong, DeLong and Clarke-Pearson 1988. An item's placement is the share of the other class's items that it is
ordered correctly against. The AUC is the mean placement of either class, and to first order each class adds its own
error.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LinearAuc:
    """One value per item; their mean is the AUC, and their variance over the items that of DeLong et al."""

    values: list[float]
    reach: float  # the change of a value if its item's placement alone goes from 0 to 1


def linear_auc(is_positive: Sequence[bool], scores: Sequence[float], folds: Sequence[Hashable]) -> LinearAuc:
    """Return the values of items whose AUC is the mean of the folds'. ValueError for a fold of one class."""
    labels, numbers = np.asarray(is_positive, dtype=bool), np.asarray(scores, dtype=float)
    if not np.isfinite(numbers).all():
        raise ValueError("a score is not finite")
    names = list(dict.fromkeys(folds))
    fold_of = np.array([names.index(fold) for fold in folds])
    values, areas, weights = np.zeros(len(numbers)), [], []
    for index in range(len(names)):
        positive, negative = np.flatnonzero(labels & (fold_of == index)), np.flatnonzero(~labels & (fold_of == index))
        if not len(positive) or not len(negative):
            raise ValueError(f"the items of the fold {names[index]} are of one class: they have no AUC")
        for own, other, sign in ((positive, negative, 1.0), (negative, positive, -1.0)):
            placements = _placements(sign * numbers[own], sign * numbers[other])
            weights.append(len(numbers) / (len(names) * len(own)))
            values[own] = weights[-1] * (placements - placements.mean())
        areas.append(float(placements.mean()))
    return LinearAuc((values + float(np.mean(areas))).tolist(), max(weights))


def _placements(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each own score the share of others below it; equal ones count half."""
    ordered = np.sort(other)
    below, not_above = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    return np.asarray((below + not_above) / (2 * len(other)))
