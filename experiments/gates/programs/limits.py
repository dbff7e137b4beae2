"""Limits on a program's figures against another program's: one on the centre, one on the slow tail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.programs.figure import Figure
from runtime_matrix.experiments.programs.turns import Turn
from runtime_matrix.experiments.statistics.sequential import Look, Rule, look, look_at
from runtime_matrix.experiments.statistics.tails import tail_difference

CELL = "command"  # the name of the judged program in findings
_FEWEST_FOR_TAIL = 20  # turns; with fewer, no tail limit can pass at the level of a gate


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What may be lost, as shares: a loss up to `indifferent` does not matter, one of `must_find` must not pass.

    `turns`: the numbers of turns after which a limit may be decided. `alpha` is the probability of a wrong verdict, for
    all limits together.
    """

    indifferent: float = 0.02
    must_find: float = 0.05
    tail: bool = True
    tail_indifferent: float = 0.1
    tail_must_find: float = 0.25
    turns: tuple[int, ...] = (6, 10, 15, 20, 30, 40)
    alpha: float = 0.05
    higher_is_better: bool = False  # of printed numbers

    def check(self) -> None:
        """Raise UserError for limits that can judge nothing."""
        for name, low, high in (
            ("", self.indifferent, self.must_find),
            ("tail-", self.tail_indifferent, self.tail_must_find),
        ):
            if not 0 <= low < high < math.inf:
                raise UserError(
                    f"--{name}indifferent {low:g} must be at least 0 and less than --{name}must-find {high:g}"
                )
        if not 0 < self.alpha <= 0.5:
            raise UserError(f"--alpha {self.alpha:g} must be above 0 and at most 0.5")
        if not self.turns or list(self.turns) != sorted(set(self.turns)) or self.turns[0] < 3:
            raise UserError(f"--turns {','.join(map(str, self.turns))} must grow and start with 3 or more: 6,10,15,20")
        if self.tail and self.turns[-1] < _FEWEST_FOR_TAIL:
            raise UserError(
                f"--turns ends with {self.turns[-1]}: a tail limit needs {_FEWEST_FOR_TAIL} turns; or use --no-tail"
            )

    def of(self, figures: Sequence[Figure]) -> list[ProgramLimit]:
        """Return the limits on these figures; each bound has an equal share of `alpha`."""
        level = 1 - self.alpha / (len(figures) * (2 if self.tail else 1))
        centre = Rule(math.log1p(self.indifferent), math.log1p(self.must_find), self.turns, level)
        turns = tuple(count for count in self.turns if count >= _FEWEST_FOR_TAIL)
        tail = Rule(math.log1p(self.tail_indifferent), math.log1p(self.tail_must_find), turns, level)
        limits = []
        for figure in figures:
            sign = -1 if figure.is_printed and self.higher_is_better else 1
            limits.append(ProgramLimit(figure, centre, sign))
            if self.tail:
                limits.append(ProgramLimit(figure, tail, sign, is_tail=True))
        return limits

    def plain(self) -> JsonObject:
        """Return the limits as plain data."""
        return {**vars(self), "name": "command", "turns": list(self.turns)}


@dataclass(frozen=True)
class ProgramLimit:
    """A limit on one figure. `sign` −1: higher is better, so that a loss is a smaller value."""

    figure: Figure
    rule: Rule
    sign: int
    is_tail: bool = False

    @property
    def name(self) -> str:
        """Return the name, as in findings."""
        return f"{self.figure.name} tail" if self.is_tail else self.figure.name

    def look(self, turns: Sequence[Turn]) -> Look:
        """Return the interim analysis: the logarithm of the loss."""
        if self.is_tail:
            name, sign = self.figure.name, self.sign
            pairs = [[(sign * a, sign * b) for a, b in turn.log_pairs(name)] for turn in turns]
            return look_at(
                pairs,
                self.rule,
                lambda looked, level: tail_difference([pair for turn in looked for pair in turn], level),
            )
        return look([self.sign * turn.log_ratio(self.figure.name) for turn in turns], self.rule)

    def is_decided(self, turns: Sequence[Turn]) -> bool:
        """Return whether the limit has a verdict."""
        return self.look(turns).verdict != "inconclusive"

    def finding(self, turns: Sequence[Turn]) -> LimitResult:
        """Return the finding on these turns: the ratio of the two programs' values with its bounds."""
        interim = self.look(turns)
        better = "lower" if self.sign > 0 else "higher"
        allowed, must_find = (math.exp(self.sign * end) for end in (self.rule.indifferent, self.rule.must_find))
        blank = LimitResult(
            CELL, self.name, interim.verdict, "", "× the reference", better, limit=must_find, n=interim.launches
        )
        if interim.loss is None:
            text = f"{self.name}: {len(turns)} turns, at least {self.rule.looks[0]} are needed"
            return LimitResult(CELL, self.name, "inconclusive", text)
        ends = [self.sign * end for end in (interim.loss.estimate, interim.loss.low, interim.loss.high)]
        value, low, high = (math.exp(end) for end in (ends[0], min(ends[1:]), max(ends[1:])))
        what = f"the slowest quarter of {self.figure.name}" if self.is_tail else self.figure.name
        figures = (
            f"{what} is {value:.3f}× the reference's [{low:.3f}, {high:.3f}] after {interim.launches} turns; "
            f"{allowed:.3g}× does not matter, {must_find:.3g}× does"
        )
        advice = {
            "fail": "profile what changed, or allow it: --indifferent, --must-find",
            "inconclusive": "a quieter machine, more --turns or a larger --must-find would decide",
        }.get(interim.verdict, "")
        return LimitResult(
            CELL, self.name, interim.verdict, figures, blank.unit, better, value, low, high, must_find, blank.n, advice
        )
