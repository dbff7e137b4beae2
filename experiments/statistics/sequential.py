"""When a gate has launched enough, and what it may then say: looks at a growing number of losses.

Two one-sided tests with an inconclusive zone between them (Schuirmann 1987): a loss is shown to be more than
`indifferent`, or shown to be less than `must_find`. The looks share the error (Bonferroni); later looks get larger
shares, since early on there are few launches and their spread is least certain. How often the rule errs is simulated by
`python -m experiments.validation.simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import mean_interval

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Rule:
    """Losses are in one unit with both numbers. Between them either verdict is right."""

    indifferent: float  # a loss up to here never matters: it fails as rarely as `level` says
    must_find: float  # a loss from here on always matters: it passes as rarely as `level` says
    looks: tuple[int, ...]  # numbers of launches after which a verdict may be given
    level: float = 0.99  # of each one-sided test, all looks together

    def two_sided(self, place: int) -> float:
        """Return the level of a look's interval, whose share of the error grows with its place: 1, 2, 3, 4 tenths."""
        shares = len(self.looks) * (len(self.looks) + 1) / 2
        return 1 - 2 * (1 - self.level) * (place + 1) / shares


def judge(loss: Interval | None, rule: Rule) -> Verdict:
    """Return the verdict on a loss whose interval is two-sided.

    Where both are shown, more than `indifferent` and less than `must_find`, the one nearer to the estimate counts.
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
    for place, count in enumerate(rule.looks):
        if len(losses) < count:
            break
        loss = interval(losses[:count], rule.two_sided(place))
        found = Look(judge(loss, rule), loss, count)
        if found.verdict != "inconclusive":
            break
    return found
