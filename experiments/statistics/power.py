"""What a number of items can show, before any answer is looked at.

The share of changed answers (flips) is not known beforehand, so it is an argument. Losses are shares of all items.
"""

from __future__ import annotations

from scipy import special

from runtime_matrix.experiments.statistics.shares import paired_proportions

_STEPS = 40  # bisection steps


def detectable_loss(items: int, flips: float, level: float, power: float = 0.8) -> float | None:
    """Return the least loss whose lower bound exceeds 0 with probability `power`; None if no loss would be found.

    `flips`: the share of items with another answer; the loss is the share that got worse, less the share that got
    better. `level` is that of the two-sided interval.
    """
    changed = round(flips * items)
    needed = next(
        (
            worse
            for worse in range((changed + 1) // 2, changed + 1)
            if paired_proportions(worse, changed - worse, items, level).low > 0
        ),
        None,
    )
    if needed is None or not changed:
        return None
    low, high = 0.5, 1.0  # of the share of changed answers that got worse
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if special.bdtrc(needed - 1, changed, middle) >= power else (middle, high)
    return (2 * high - 1) * changed / items


def passing_margin(items: int, flips: float, level: float, power: float = 0.8) -> float:
    """Return the least margin that equally good answers meet with probability `power`; arguments as above."""
    changed = round(flips * items)
    worse = next(worse for worse in range(changed + 1) if special.bdtr(worse, changed, 0.5) >= power)
    return paired_proportions(worse, changed - worse, items, level).high
