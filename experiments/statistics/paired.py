"""Statistics of paired measurements of two cells: by launch for speed, by item for accuracy.

Sources: Kalibera and Jones 2013 (the launch is the unit of replication); Miller 2024, arXiv 2411.00640 (paired
differences with clustered errors); Bartlett 1946 (the error of an autocorrelation); Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.shares import bounded_mean, paired_proportions

_MOST_ITEMS = 10**7


def launch_log_ratio(candidate_s: Sequence[float], reference_s: Sequence[float]) -> float:
    """Return log(candidate / reference) of one launch from the times of its rounds; below 0 is faster.

    It is the median over rounds of their log ratio. Round i of both cells ran at nearly the same time, so disturbances
    of the machine affect both. Of the estimators tried, it varies least between launches, idle and under load.
    """
    pairs = min(len(candidate_s), len(reference_s))
    logs: list[float] = np.log(np.asarray(candidate_s)[:pairs] / np.asarray(reference_s)[:pairs]).tolist()
    return median(logs)  # faster than numpy's for so few values


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the t interval of the mean of independent values; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, level)


def difference_of_means(values: Sequence[float], others: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return mean(values) − mean(others) of separate samples with Welch's interval; None for fewer than 2 of either."""
    if min(len(values), len(others)) < 2:
        return None
    parts = [float(np.var(group, ddof=1)) / len(group) for group in (values, others)]
    difference, error = float(np.mean(values) - np.mean(others)), math.sqrt(sum(parts))
    squares = sum(part**2 / (len(group) - 1) for part, group in zip(parts, (values, others), strict=True))
    freedom = sum(parts) ** 2 / squares if squares > 0 else math.inf
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * error if error > 0 else 0.0
    return Interval(difference, difference - reach, difference + reach, level)


def lag_1(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the lag-1 autocorrelation of values in their order; None for fewer than four or equal values.

    The estimate is biased by about −1 / n, which the bounds correct. For 12 values they are 0.57 to either side.
    """
    n = len(values)
    residuals = np.asarray(values, dtype=float) - float(np.mean(values))
    squares = float(residuals @ residuals)
    if n < 4 or squares == 0:
        return None
    estimate = float(residuals[:-1] @ residuals[1:]) / squares
    reach = float(special.ndtri((1 + level) / 2)) / math.sqrt(n)
    return Interval(estimate, max(-1.0, estimate + 1 / n - reach), min(1.0, estimate + 1 / n + reach), level)


def paired_difference(
    candidate: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """Return the mean of candidate − reference with its t interval, clustered if items share a cluster.

    None for fewer than two clusters. The interval is too narrow for scores that rarely differ: see `loss`.
    """
    return _clustered(np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float), clusters, level)


def loss(
    candidate: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    is_share: bool = True,
    repeats: float = 1.0,
) -> Interval | None:
    """Return mean(reference − candidate) with its interval; None for fewer than two clusters.

    Scores from 0 to 1 (`is_share`) get bounds that hold even if few items differ: Tango's for right and wrong answers,
    those of a bounded mean for others. Items of one cluster count as one item, and the wider of these bounds and the
    clustered t interval applies. `repeats` simulates a data set that is so many times larger, for `items_needed`.
    """
    lost = np.asarray(reference, dtype=float) - np.asarray(candidate, dtype=float)
    interval = _clustered(lost, clusters, level, repeats)
    if interval is None or not is_share:
        return interval
    means = cluster_means(lost.tolist(), clusters)
    if len(means) == len(lost):
        is_right_or_wrong = set(np.unique([*candidate, *reference])) <= {0.0, 1.0}
        if is_right_or_wrong:
            first, second = (repeats * float(np.sum(sign * lost > 0)) for sign in (1, -1))
            return paired_proportions(first, second, repeats * len(lost), level)
        return bounded_mean(lost.tolist(), level, repeats)
    bounds = bounded_mean(means, level, repeats)
    return Interval(interval.estimate, min(interval.low, bounds.low), max(interval.high, bounds.high), level)


def items_needed(
    candidate: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable] | None,
    level: float,
    is_share: bool,
    margin: float,
) -> int | None:
    """Return how many items like these would bound the loss below `margin`; None if no number up to 10^7 would."""

    def is_sufficient(repeats: float) -> bool:
        interval = loss(candidate, reference, clusters, level, is_share, repeats)
        return interval is not None and interval.high < margin

    most = _MOST_ITEMS / len(candidate)
    if most < 1 or not is_sufficient(most):
        return None
    least = 1 / len(candidate)
    while most - least > 0.01 * most:
        middle = math.sqrt(most * least)
        least, most = (least, middle) if is_sufficient(middle) else (middle, most)
    return math.ceil(most * len(candidate))


def _clustered(
    differences: NDArray[np.float64], clusters: Sequence[Hashable] | None, level: float, repeats: float = 1.0
) -> Interval | None:
    n = len(differences)
    groups: dict[Hashable, float] = {}
    sizes: dict[Hashable, int] = {}
    for name, difference in zip(clusters if clusters is not None else range(n), differences, strict=True):
        groups[name] = groups.get(name, 0.0) + float(difference)
        sizes[name] = sizes.get(name, 0) + 1
    if len(groups) < 2:
        return None
    mean = float(differences.mean())
    squares = sum((total - mean * sizes[name]) ** 2 for name, total in groups.items())
    count = len(groups)
    error = math.sqrt(squares * count / (count - 1) / repeats) / n
    reach = float(special.stdtrit(max(1.0, count * repeats - 1), (1 + level) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, level)


def cluster_means(values: Sequence[float], clusters: Sequence[Hashable] | None) -> list[float]:
    """Return the mean of each cluster's values; without clusters, the values."""
    groups: dict[Hashable, list[float]] = {}
    for name, value in zip(clusters if clusters is not None else range(len(values)), values, strict=True):
        groups.setdefault(name, []).append(float(value))
    return [sum(group) / len(group) for group in groups.values()]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p values, in their order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599), 0 to 1."""
    confidence, is_right = np.asarray(confidences), np.asarray(right, dtype=float)
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        np.sum(at == b) * abs(confidence[at == b].mean() - is_right[at == b].mean())
        for b in range(bins)
        if (at == b).any()
    ]
    return float(sum(gaps) / len(confidence))
