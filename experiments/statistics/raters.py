"""Agreement of two raters beyond chance, and rank correlation within strata, with their intervals.

Sources: Cohen 1960, Educational and Psychological Measurement 20:37 (kappa); Efron and Tibshirani 1993, chapter 13
(percentile bootstrap, here of clusters); Bonett and Wright 2000, Psychometrika 65:23 (error of a rank correlation).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.shares import exact_proportion

_RESAMPLES = 2000
_SEED = 0  # so that a record gives the same interval each time


def kappa(
    first: Sequence[bool],
    second: Sequence[bool],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """Return Cohen's κ of two raters who say yes or no; None if it is undefined, as where both say the same of all.

    The interval is the wider of two: the bootstrap's over clusters, and the exact one of the share of agreement at the
    observed chance. Without the second, raters who agree on every item of a few would have no uncertainty.
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    estimate = _kappa(_counts(one, other))
    if estimate is None:
        return None
    chance = _chance(one.mean(), other.mean())
    agreed = exact_proportion(int(np.sum(one == other)), len(one), level)
    bounds = [(share - chance) / (1 - chance) for share in (agreed.low, agreed.high)]
    bounds += _bootstrap(one, other, clusters, level)
    return Interval(estimate, max(-1.0, min(bounds)), min(1.0, max(bounds)), level)


def rank_correlation(
    first: Sequence[float], second: Sequence[float], strata: Sequence[Hashable] | None = None, level: float = 0.95
) -> Interval | None:
    """Return Spearman's rank correlation within strata, pooled over them; None if either never varies within one.

    Ranks are taken within a stratum and as shares of its size, so that strata of other levels add nothing.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, name in enumerate(strata if strata is not None else [None] * len(first)):
        groups.setdefault(name, []).append(index)
    pairs = [(_ranks([first[i] for i in group]), _ranks([second[i] for i in group])) for group in groups.values()]
    ranks, others = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    spread = math.sqrt(float(ranks @ ranks) * float(others @ others))
    free = len(first) - len(groups) - 2
    if spread == 0 or free < 1:
        return None
    rho = min(1.0, max(-1.0, float(ranks @ others) / spread))
    reach = float(special.ndtri((1 + level) / 2)) * math.sqrt((1 + rho * rho / 2) / free)
    z = math.atanh(min(1 - 1e-9, max(-1 + 1e-9, rho)))
    return Interval(rho, math.tanh(z - reach), math.tanh(z + reach), level)


def _counts(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the numbers of items by the answers of both: both yes, only the first, only the second, both no."""
    return np.array([np.sum(one & other), np.sum(one & ~other), np.sum(~one & other), np.sum(~one & ~other)], float)


def _kappa(counts: NDArray[np.float64]) -> float | None:
    both, only_first, only_second, neither = counts / counts.sum()
    chance = _chance(both + only_first, both + only_second)
    return None if chance >= 1.0 - 1e-12 else float((both + neither - chance) / (1 - chance))


def _chance(first_yes: float, second_yes: float) -> float:
    return float(first_yes * second_yes + (1 - first_yes) * (1 - second_yes))


def _bootstrap(
    one: NDArray[np.bool_], other: NDArray[np.bool_], clusters: Sequence[Hashable] | None, level: float
) -> list[float]:
    """Return both bounds of the percentile bootstrap; samples without a κ are left out."""
    names: dict[Hashable, int] = {}
    at = [names.setdefault(name, len(names)) for name in (clusters if clusters is not None else range(len(one)))]
    by_cluster = np.zeros((len(names), 4))
    for cluster, kind in zip(at, 3 - 2 * one.astype(int) - other.astype(int), strict=True):
        by_cluster[cluster, kind] += 1
    generator = np.random.default_rng(_SEED)
    shares, values = np.full(len(names), 1 / len(names)), []
    for _ in range(_RESAMPLES):  # one at a time: all together are large for many clusters
        value = _kappa(generator.multinomial(len(names), shares) @ by_cluster)
        values += [] if value is None else [value]
    return [float(np.quantile(values, end)) for end in ((1 - level) / 2, (1 + level) / 2)] if values else []


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the ranks, equal values sharing one, centred at 0 and divided by their number."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    centred: NDArray[np.float64] = (ranks - ranks.mean()) / len(values)
    return centred
