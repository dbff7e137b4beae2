"""Percentiles and standard errors of raw samples. A percentile that the samples cannot support is None."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from runtime_matrix.experiments.statistics.shares import wilson_interval

_CONFIDENCE = 0.95
_Z = 1.959964  # the normal distribution's two-sided 95 %


def percentile(samples: Sequence[float], q: float) -> float | None:
    """Return the q-th percentile, 0 < q < 100; None with too few samples to bound it from above at 95 % confidence.

    The largest of n samples exceeds the q-quantile with probability 1 - q^n: p90 needs 29 samples, p95 59, p99 299.
    """
    if not samples or (q > 50 and len(samples) < math.ceil(math.log(1 - _CONFIDENCE) / math.log(q / 100))):
        return None
    return float(np.percentile(samples, q))


def standard_error(scores: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float | None:
    """Return the standard error of the mean of scores from 0 to 1; None for fewer than two.

    `clusters` names the passage or subject that items share. The clustered error (Miller 2024, arXiv 2411.00640) is
    returned, but never less than that of independent items. With few clusters, such as 8 subjects, it is uncertain:
    compare cells by their paired difference, which cancels what the items share. If all scores are 0 or all are 1, it
    is half of Wilson's 95 % interval over 1.96, because a mean of 0 % or 100 % is not known exactly.
    """
    values = np.asarray(scores, dtype=float)
    n = len(values)
    if n < 2:
        return None
    totals: dict[Hashable, list[float]] = {}
    for name, value in zip(clusters if clusters is not None else range(n), values, strict=True):
        totals.setdefault(name, []).append(float(value))
    count, mean = len(totals), float(values.mean())
    if mean in (0.0, 1.0):
        return wilson_interval(mean * count, count).half_width / _Z
    independent = float(np.std(values, ddof=1)) / math.sqrt(n)
    if count in (1, n):
        return independent
    squares = sum((sum(group) - mean * len(group)) ** 2 for group in totals.values())
    return max(independent, math.sqrt(squares * count / (count - 1)) / n)


def percent_standard_error(scores: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float | None:
    """Return `standard_error` in percentage points."""
    error = standard_error(scores, clusters)
    return None if error is None else 100 * error
