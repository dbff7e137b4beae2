"""Statistics of two things measured on the same occasions: launches for speed, items for accuracy.

Sources: Kalibera and Jones 2013 (the launch is the unit of replication); Miller 2024, arXiv 2411.00640 (paired
differences with clustered errors); Fagerland et al. 2013 (McNemar's mid-p); Clopper and Pearson 1934; Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

_FEW = 10  # items that differ, below which a t interval promises too much


@dataclass(frozen=True)
class Interval:
    estimate: float
    low: float
    high: float
    level: float  # 0 to 1

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def exp(self) -> Interval:
        return Interval(math.exp(self.estimate), math.exp(self.low), math.exp(self.high), self.level)


def launch_log_ratio(candidate_s: Sequence[float], reference_s: Sequence[float]) -> float:
    """Return log(candidate / reference) of one launch, from the times of its rounds: below 0 is faster.

    The median over rounds of their log ratio: round i of both ran within moments, so that what slows the machine for a
    while slows both. Of the estimators that were tried it varies least between launches, quiet and under load.
    """
    pairs = min(len(candidate_s), len(reference_s))
    return float(np.median(np.log(np.asarray(candidate_s)[:pairs] / np.asarray(reference_s)[:pairs])))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the t interval of the mean of independent values; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, level)


def difference_of_means(values: Sequence[float], others: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return Welch's interval of mean(values) − mean(others), measured apart; None for fewer than two of either."""
    if min(len(values), len(others)) < 2:
        return None
    parts = [float(np.var(one, ddof=1)) / len(one) for one in (values, others)]
    difference, error = float(np.mean(values) - np.mean(others)), math.sqrt(sum(parts))
    squares = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (values, others), strict=True))
    freedom = sum(parts) ** 2 / squares if squares > 0 else math.inf
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * error if error > 0 else 0.0
    return Interval(difference, difference - reach, difference + reach, level)


def exact_proportion(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the Clopper-Pearson interval. At none or all of n the bound is one-sided: 0 of 200 leaves 1.5 points open.

    ValueError without trials.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}")
    tail = 1 - level if successes in (0, n) else (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(successes / n, low, high, level)


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Return the two-sided mid-p value for as many items being right under one alone as under the other alone."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    if only_first == only_second:
        at = _binomial(fewer, n)
        return 1.0 - at
    below = float(special.bdtr(fewer, n, 0.5))
    return min(1.0, 2 * below - _binomial(fewer, n))


def paired_difference(
    candidate: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """Return the mean of candidate − reference with its interval, the error clustered where items share a cluster.

    None for fewer than two clusters.
    """
    differences = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
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
    error = math.sqrt(squares * count / (count - 1)) / n
    reach = float(special.stdtrit(count - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, level)


def loss(
    candidate: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    is_share: bool = True,
) -> Interval | None:
    """Return mean(reference − candidate) with its interval; None for fewer than two clusters.

    Scores from 0 to 1 (`is_share`) of which hardly any differ get exact bounds: that nothing changed in 200 items does
    not say that nothing changes.
    """
    difference = paired_difference(candidate, reference, clusters, level)
    if difference is None:
        return None
    found = Interval(-difference.estimate, -difference.high, -difference.low, level)
    names = list(clusters) if clusters is not None else list(range(len(candidate)))
    triples = list(zip(names, candidate, reference, strict=True))
    lost, won = {name for name, a, b in triples if a < b}, {name for name, a, b in triples if a > b}
    if not is_share or len(lost | won) >= _FEW:
        return found
    clusters_n = len(set(names))
    bounds = [exact_proportion(len(one), clusters_n, level).high for one in (won, lost)]
    return Interval(found.estimate, min(found.low, -bounds[0]), max(found.high, bounds[1]), level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number, in their order."""
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


def _binomial(k: int, n: int) -> float:
    return (
        math.comb(n, k) * 0.5**n
        if n < 1000
        else math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + n * math.log(0.5))
    )
