"""pass@k, the probability that one of k samples passes."""

from __future__ import annotations

import math


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Return the unbiased estimate 1 − C(n−c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, section 2.1)."""
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def pass_at(samples: int, passed: int, k: float) -> float:
    """Return pass@k of a mean number of samples: the larger number is drawn with the probability of the fraction."""
    fewer, rest = math.floor(k), k - math.floor(k)
    at_fewer = pass_at_k(samples, passed, fewer)
    return at_fewer if rest == 0 else (1 - rest) * at_fewer + rest * pass_at_k(samples, passed, fewer + 1)
