"""Sequential testing for gates: when there are enough launches, and the verdict then.

Two one-sided tests with an inconclusive zone between them (Schuirmann 1987) show that a loss is more than
`indifferent`, or that it is less than `must_find`. Interim analyses (looks) share the error (Bonferroni). Later looks
get larger shares, because early ones have few launches and an uncertain spread. `python -m
experiments.validation.simulation` simulates the error rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import mean_interval

Verdict = Literal["pass", "fail", "inconclusive"]
T = TypeVar("T")
IntervalOf = Callable[[Sequence[T], float], Interval | None]  # of the launches so far, at a two-sided level


@dataclass(frozen=True)
class Rule:
    """The rule of a sequential test. Losses have the unit of the limits; between them, either verdict is right."""

    indifferent: float  # a loss up to here does not matter; it fails with probability at most 1 − level
    must_find: float  # a loss from here on matters; it passes with probability at most 1 − level
    looks: tuple[int, ...]  # numbers of launches at which a verdict is possible
    level: float = 0.99  # of each one-sided test, over all looks

    def two_sided(self, place: int) -> float:
        """Return the level of a look's interval; the shares of the error of four looks are 1, 2, 3 and 4 tenths."""
        shares = len(self.looks) * (len(self.looks) + 1) / 2
        return 1 - 2 * (1 - self.level) * (place + 1) / shares


def judge(loss: Interval | None, rule: Rule) -> Verdict:
    """Return the verdict on a loss with a two-sided interval.

    If the loss is both more than `indifferent` and less than `must_find`, the limit nearer to the estimate decides.
    """
    if loss is None:
        return "inconclusive"
    is_nearer_to_must_find = loss.estimate >= (rule.indifferent + rule.must_find) / 2
    if loss.low > rule.indifferent and is_nearer_to_must_find:
        return "fail"
    if loss.high < rule.must_find and not is_nearer_to_must_find:
        return "pass"
    return "inconclusive"


@dataclass(frozen=True)
class Look:
    """An interim analysis."""

    verdict: Verdict
    loss: Interval | None
    launches: int  # number of launches that it uses


def look(losses: Sequence[float], rule: Rule, interval: IntervalOf[float] = mean_interval) -> Look:
    """Return the first look with a pass or fail, otherwise the last possible look."""
    return look_at(losses, rule, interval)


def look_at(losses: Sequence[T], rule: Rule, interval: IntervalOf[T]) -> Look:
    """Return what `look` returns, for launches that are more than one number each."""
    result = Look("inconclusive", None, len(losses))
    for place, count in enumerate(rule.looks):
        if len(losses) < count:
            break
        loss = interval(losses[:count], rule.two_sided(place))
        result = Look(judge(loss, rule), loss, count)
        if result.verdict != "inconclusive":
            break
    return result
