"""The highest request rate at which a service level objective still holds, by bisection, with its bracket."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Attained = Callable[[float], float]  # from a rate to the share of requests that meet the objective


@dataclass(frozen=True)
class HighestRate:
    """`low` held and `high` did not, in requests per second; None: no tried rate did."""

    low: float | None
    high: float | None
    tried: list[tuple[float, float]]  # (rate, share that met the objective), in order


def highest_rate(
    attained: Attained, lowest: float, highest: float, share: float, precision: float = 0.1
) -> HighestRate:
    """Return the bracket of the rate at which at least `share` of the requests meet the objective.

    It is searched between `lowest` and `highest` until high / low - 1 is at most `precision`, halving the logarithm.
    """
    tried: list[tuple[float, float]] = []

    def holds(rate: float) -> bool:
        tried.append((rate, attained(rate)))
        return tried[-1][1] >= share

    if not holds(lowest):
        return HighestRate(None, lowest, tried)
    if holds(highest):
        return HighestRate(highest, None, tried)
    low, high = lowest, highest
    while high / low - 1 > precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return HighestRate(low, high, tried)
