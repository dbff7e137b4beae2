"""Measure two programs in turns until every limit is decided, and repeat a fail afresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.judge import overall
from runtime_matrix.experiments.gates.measure import confirmed
from runtime_matrix.experiments.gates.programs.limits import ProgramLimit, ProgramLimits
from runtime_matrix.experiments.programs.turns import Comparison, Turn
from runtime_matrix.experiments.statistics.sequential import Verdict

Note = Callable[[str], None]


@dataclass(frozen=True)
class ProgramJudgement:
    """The findings on a program, and the turns behind them: one list per measurement."""

    findings: list[LimitResult]
    measurements: list[list[Turn]]

    @property
    def was_repeated(self) -> bool:
        """Return whether a fail was measured again."""
        return len(self.measurements) > 1

    @property
    def verdict(self) -> Verdict:
        """Return fail if any limit failed, pass if all passed, else inconclusive."""
        return overall(self.findings)


def judge_programs(
    comparison: Comparison, limits: ProgramLimits, confirm: bool = True, note: Note = lambda text: None
) -> ProgramJudgement:
    """Judge the candidate. A fail is measured again with fresh runs, after the rebuild commands if there are any.

    UserError for limits that can judge nothing and for programs that cannot be measured.
    """
    limits.check()
    judged = limits.of(comparison.figures)
    turns, findings = _measured(comparison, judged, limits, note)
    failed = {finding.name for finding in findings if finding.verdict == "fail"}
    if not failed or not confirm:
        return ProgramJudgement(findings, [turns])
    note("a limit failed: measuring again")
    if comparison.rebuild():
        note("both sides are rebuilt")
    again = [limit for limit in judged if limit.name in failed]
    repeated_turns, repeated = _measured(comparison, again, limits, note)
    return ProgramJudgement(confirmed(findings, repeated), [turns, repeated_turns])


def _measured(
    comparison: Comparison, judged: Sequence[ProgramLimit], limits: ProgramLimits, note: Note
) -> tuple[list[Turn], list[LimitResult]]:
    turns: list[Turn] = []
    for turn in islice(comparison.turns(), limits.turns[-1]):
        turns.append(turn)
        note(f"turn {len(turns)} of at most {limits.turns[-1]}")
        if len(turns) in limits.turns and all(limit.is_decided(turns) for limit in judged):
            break
    return turns, [limit.finding(turns) for limit in judged]
