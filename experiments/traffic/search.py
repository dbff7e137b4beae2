"""The highest request rate at which a service level objective still holds, by bisection, with its bracket.

One noisy load decides nothing: each rate is judged by several loads together, and both ends of the bracket must be
confirmed by loads that the search has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Counts = tuple[int, int]  # (requests that met the objective, requests)
Attained = Callable[[float, int], Counts]  # from a rate and the number of the load, which is its seed
_LOADS = 2  # per judgement


@dataclass(frozen=True)
class Trial:
    """A rate and what its loads gave together."""

    rate: float
    met: int
    requests: int
    is_confirmation: bool = False

    def holds(self, share: float) -> bool:
        """Return whether at least this share of the requests met the objective."""
        return self.met >= share * self.requests


@dataclass(frozen=True)
class HighestRate:
    """`low` held and `high` did not, in requests per second, both also with new loads; None: no tried rate did."""

    low: float | None
    high: float | None
    trials: list[Trial]  # in order


def highest_rate(
    attained: Attained, lowest: float, highest: float, share: float, precision: float = 0.1
) -> HighestRate:
    """Return the bracket of the rate at which at least `share` of the requests meet the objective.

    It is searched between `lowest` and `highest` until high / low - 1 is at most `precision`, halving the logarithm.
    Then both ends are judged by new loads. An end that is not confirmed gives way to the next rate that had the same
    outcome, so that noise widens the bracket.
    """
    trials: list[Trial] = []

    def judged(rate: float, is_confirmation: bool = False) -> bool:
        first = _LOADS * sum(trial.rate == rate for trial in trials)
        counts = [attained(rate, number) for number in range(first, first + _LOADS)]
        trials.append(Trial(rate, sum(met for met, _ in counts), sum(total for _, total in counts), is_confirmation))
        return trials[-1].holds(share)

    if judged(highest) and judged(highest, is_confirmation=True):
        return HighestRate(highest, None, trials)
    held, failed = [lowest], [highest]  # towards each other; whether the lowest rate holds is not known yet
    while failed[-1] / held[-1] - 1 > precision:
        middle = math.sqrt(held[-1] * failed[-1])
        (held if judged(middle) else failed).append(middle)
    low = next((rate for rate in reversed(held) if judged(rate, is_confirmation=True)), None)
    high = next((rate for rate in reversed(failed) if not judged(rate, is_confirmation=True)), None)
    return HighestRate(low, high, trials)
