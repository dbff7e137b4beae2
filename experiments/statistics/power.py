"""What a number of items can show, before any answer is looked at.

The share of answers that change for the better as often as for the worse (flips) is not known beforehand, so it is an
argument. Losses are shares of all items.
"""

from __future__ import annotations

import math

from scipy import special

from runtime_matrix.experiments.statistics.shares import paired_proportions

_STEPS = 40  # bisection steps


def detectable_loss(items: int, flips: float, margin: float, level: float, power: float = 0.8) -> float:
    """Return the least loss whose lower bound exceeds `margin` with probability `power`, by the normal approximation.

    `flips` change besides the loss. `level` is that of the two-sided interval. The result may exceed 1: no loss.
    """
    reach = float(special.ndtri((1 + level) / 2) + special.ndtri(power))
    low, high = margin, 2.0
    for _ in range(_STEPS):
        loss = (low + high) / 2
        deviation = math.sqrt(max(0.0, loss + flips - loss**2) / items)
        low, high = (low, loss) if loss - margin >= reach * deviation else (loss, high)
    return high


def passing_margin(items: int, flips: float, level: float, power: float = 0.8) -> float:
    """Return the least margin that equally good answers meet with probability `power`; arguments as above."""
    changed = round(flips * items)
    worse = next(worse for worse in range(changed + 1) if special.bdtr(worse, changed, 0.5) >= power)
    return paired_proportions(worse, changed - worse, items, level).high
