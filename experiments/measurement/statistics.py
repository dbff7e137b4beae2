"""Statistics over raw samples. A percentile that the samples cannot support is None."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_CONFIDENCE = 0.95
_Z = 1.959964  # the normal distribution's two-sided 95 %


def percentile(samples: Sequence[float], q: float) -> float | None:
    """Return the q-th percentile (0 < q < 100), or None below the samples that bound it from above at 95 % confidence.

    The largest of n samples exceeds the q-quantile with probability 1 - q^n: p90 needs 29 samples, p95 59, p99 299.
    """
    if not samples or (q > 50 and len(samples) < math.ceil(math.log(1 - _CONFIDENCE) / math.log(q / 100))):
        return None
    return float(np.percentile(samples, q))


def mean_and_standard_error(samples: Sequence[float]) -> tuple[float | None, float | None]:
    if not samples:
        return None, None
    error = float(np.std(samples, ddof=1)) / math.sqrt(len(samples)) if len(samples) > 1 else None
    return float(np.mean(samples)), error


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a rate (Wilson 1927). ValueError without trials."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}")
    rate, z2 = successes / n, _Z * _Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
