"""An estimate with its confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds."""

    estimate: float
    low: float
    high: float
    level: float  # two-sided, 0 to 1: each bound is wrong with probability (1 − level) / 2

    @property
    def half_width(self) -> float:
        """Return half the distance between the bounds; the estimate need not be in the middle."""
        return (self.high - self.low) / 2

    def exp(self) -> Interval:
        """Return the interval of exp(x), such as a ratio from its logarithm."""
        return Interval(math.exp(self.estimate), math.exp(self.low), math.exp(self.high), self.level)

    def negated(self) -> Interval:
        """Return the interval of −x, with the bounds swapped."""
        return Interval(-self.estimate, -self.high, -self.low, self.level)
