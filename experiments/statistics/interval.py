"""An interval of an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    estimate: float
    low: float
    high: float
    level: float  # 0 to 1, two-sided: each bound errs by half of what is left

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def exp(self) -> Interval:
        return Interval(math.exp(self.estimate), math.exp(self.low), math.exp(self.high), self.level)

    def negated(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low, self.level)
