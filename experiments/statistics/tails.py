"""Compare the slow tails of two samples by ranks: exact for every distribution.

Source: Johnson, Verrill and Moore 1987, Biometrics 43:641 (the quantile test): among the largest values of two equal
samples pooled, the number that come from one of them is hypergeometric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime_matrix.experiments.statistics.interval import Interval


def tail_difference(pairs: Sequence[tuple[float, float]], level: float = 0.95) -> Interval | None:
    """Return the shift between the upper tails of two samples, first − second; None for too few pairs.

    The estimate is the difference between the means of the slowest quarters. The low bound is the largest shift at
    which the largest values pooled would still all be of the first sample, the high bound the least shift at which most
    of the slowest quarter would be of the second. Logarithms of times give the logarithm of a ratio.
    """
    n, error = len(pairs), (1 - level) / 2
    first = sorted((a for a, _ in pairs), reverse=True)
    second = sorted((b for _, b in pairs), reverse=True)
    largest = _fewest_of_one_sample(n, error)
    slowest = n // 2  # of both samples: their slowest quarter
    most = _least_count(n, slowest, error)
    if largest is None or most is None:
        return None
    low = first[largest - 1] - second[0]
    high = first[slowest - most] - second[most - 1]
    quarter = max(1, n // 4)
    estimate = (sum(first[:quarter]) - sum(second[:quarter])) / quarter
    return Interval(estimate, min(low, high), max(low, high), level)


def _fewest_of_one_sample(n: int, error: float) -> int | None:
    """Return the least r for which all r largest values are of one given sample with probability of at most `error`."""
    return next((r for r in range(1, n + 1) if math.comb(n, r) / math.comb(2 * n, r) <= error), None)


def _least_count(n: int, largest: int, error: float) -> int | None:
    """Return the least count that one sample has among so many largest values with probability of at most `error`."""
    total, tail, result = math.comb(2 * n, largest), 0, None
    for count in range(largest, -1, -1):
        tail += math.comb(n, count) * math.comb(n, largest - count)
        if tail / total > error:
            break
        result = count
    return result
