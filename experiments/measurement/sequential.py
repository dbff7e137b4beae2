"""When a gate has launched enough, and what it may then say: looks at a growing number of losses.

The rule was found by trying (false alarms and detections are what `experiments.proof` shows): a bound alone calls every
difference that is real, however small; an estimate alone calls noise. So both must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.measurement.paired import Interval, mean_interval

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Rule:
    """`tolerance` bounds the loss; a true loss of a quarter more is what the rule promises to find."""

    tolerance: float
    looks: tuple[int, ...]  # numbers of launches after which a verdict may be given
    level: float = 0.99  # of a one-sided bound, all looks together

    @property
    def two_sided(self) -> float:
        """Return the level of each look's interval: the looks share the error, so that noise alone seldom fails."""
        return 1 - 2 * (1 - self.level) / len(self.looks)


def judge(loss: Interval | None, tolerance: float) -> Verdict:
    """Return the verdict on a loss, whose interval is two-sided. Fail: a real loss, above half of the tolerance."""
    if loss is None:
        return "inconclusive"
    if loss.low > 0 and loss.estimate > tolerance / 2:
        return "fail"
    if loss.high < tolerance and loss.estimate < tolerance / 2:
        return "pass"
    return "inconclusive"


@dataclass(frozen=True)
class Look:
    verdict: Verdict
    loss: Interval | None
    launches: int  # that it rests on


def look(
    losses: Sequence[float],
    rule: Rule,
    interval: Callable[[Sequence[float], float], Interval | None] = mean_interval,
) -> Look:
    """Return the first look that has a verdict, else the last one that could be taken."""
    found = Look("inconclusive", None, len(losses))
    for count in rule.looks:
        if len(losses) < count:
            break
        loss = interval(losses[:count], rule.two_sided)
        found = Look(judge(loss, rule.tolerance), loss, count)
        if found.verdict != "inconclusive":
            break
    return found
