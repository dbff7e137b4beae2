"""Bounds of shares, and of means of values from −1 to 1, that hold even if few or no items differ.

Sources: Clopper and Pearson 1934; Wilson 1927; Tango 1998, Statistics in Medicine 17:891 (paired proportions); Edwards
1948 (the continuity correction of McNemar's test); Fagerland et al. 2013 (its mid-p); Waudby-Smith and Ramdas 2024,
JRSS B 86:1, arXiv 2010.09686 (means of bounded values by betting).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runtime_matrix.experiments.statistics.interval import Interval

_STEPS = 50  # bisection steps, for a precision of 1e-15
# Stakes, as fractions of the largest stake that cannot lose more than everything, and the weight of each. The largest
# has half of the weight: it is the best if nothing differs, and is then within log 2 of the exact bound.
_STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0])
_PURSE = np.array([1 / 14] * 7 + [1 / 2])


def exact_proportion(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the Clopper-Pearson interval, with tails of (1 − level) / 2 each: up to 1.8 % for 0 of 200.

    Raises ValueError without trials.
    """
    one_sided = (1 + level) / 2
    return Interval(
        successes / n if n else math.nan,
        lower_bound(successes, n, one_sided),
        upper_bound(successes, n, one_sided),
        level,
    )


def upper_bound(successes: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound: 1.5 % for 0 of 200. ValueError without trials."""
    _check(successes, n)
    return 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, level))


def lower_bound(successes: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided lower bound. ValueError without trials."""
    _check(successes, n)
    return 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, 1 - level))


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a rate. ValueError without trials."""
    _check(successes, n)
    z = float(special.ndtri((1 + level) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), level)


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Return the two-sided mid-p value for as many items being right only in the first as only in the second."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    at = _binomial(fewer, n)
    if only_first == only_second:
        return 1.0 - at / 2  # Fagerland et al. 2013: 1 against 1 gives 0.75
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5)) - at)


def paired_proportions(only_first: float, only_second: float, n: float, level: float = 0.95) -> Interval:
    """Return the difference of two shares of the same n items, first − second, with Tango's score interval.

    The bound nearer to 0 has Edwards' continuity correction; without it, differences are claimed too often. Enumerated
    at the levels of gates, a bound away from 0 misses at most as often as promised (at 95 %, a twentieth more), and a
    bound towards 0 at most a third more often.
    """
    z = float(special.ndtri((1 + level) / 2))
    ahead = only_first - only_second
    high = _tango_high(only_first, only_second, n, z, 1.0 if ahead < 0 else 0.0)
    low = -_tango_high(only_second, only_first, n, z, 1.0 if ahead > 0 else 0.0)
    return Interval(ahead / n, low, high, level)


def bounded_mean(values: Sequence[float], level: float = 0.95, repeats: float = 1.0) -> Interval:
    """Return the mean of independent values from −1 to 1 with an interval that holds for any skewness.

    Each candidate mean is tested by the gain of a bet against it (Waudby-Smith and Ramdas 2024, at a fixed n).
    `repeats` simulates that each value was seen so many times.
    """
    array = np.asarray(values, dtype=float)
    error = (1 - level) / 2
    return Interval(
        float(array.mean()), -_betting_high(-array, error, repeats), _betting_high(array, error, repeats), level
    )


def _betting_high(values: NDArray[np.float64], error: float, repeats: float) -> float:
    different, counts = np.unique(values, return_counts=True)

    def is_refuted(mean: float) -> bool:
        stakes = _STAKES / (1 - mean)
        with np.errstate(divide="ignore"):
            won = np.log1p(np.maximum(np.outer(stakes, mean - different), -1.0)) @ counts
        most = repeats * float(won.max())
        return most + math.log(float(_PURSE @ np.exp(repeats * won - most))) >= -math.log(error)

    mean = float(values.mean())
    return 1.0 if mean >= 1 else _bisect(mean, 1.0, is_refuted)


def _tango_high(first: float, second: float, n: float, z: float, correction: float) -> float:
    def is_refuted(difference: float) -> bool:
        b = -first - second + (2 * n - first + second) * difference
        c = -second * difference * (1 - difference)
        # The maximum-likelihood share at this difference.
        only_second = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * only_second + difference * (1 - difference))
        return variance > 0 and (first - second - n * difference + correction) / math.sqrt(variance) < -z

    return _bisect((first - second) / n, 1.0, is_refuted)


def _bisect(low: float, high: float, is_refuted: Callable[[float], bool]) -> float:
    """Return the least value above `low` that is refuted; `high` if none is."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if is_refuted(middle):
            high = middle
        else:
            low = middle
    return high


def _check(successes: float, n: float) -> None:
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes:g} successes of {n:g}")


def _binomial(k: int, n: int) -> float:
    return (
        math.comb(n, k) * 0.5**n
        if n < 1000
        else math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + n * math.log(0.5))
    )
