"""Verdicts on programs whose values are scripted, so that no time passes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates.programs.gate import judge_programs
from runtime_matrix.experiments.gates.programs.limits import ProgramLimits
from runtime_matrix.experiments.programs.figure import parse_figure
from runtime_matrix.experiments.programs.program import Program
from runtime_matrix.experiments.programs.turns import Comparison, Side, Turn

SIDE = Side(Program("true"))
Draw = Callable[[random.Random, int], float]  # source and number of rebuilds → log(candidate / reference)


@dataclass(frozen=True)
class ScriptedComparison(Comparison):
    """A fake: the reference's wall time is near 1 s, and the candidate's ratio to it is drawn."""

    draw: Draw = field(kw_only=True)
    source: random.Random = field(kw_only=True, default_factory=lambda: random.Random(0))
    rebuilds: list[bool] = field(kw_only=True, default_factory=list)

    @override
    def turns(self) -> Iterator[Turn]:
        while True:
            reference = math.exp(self.source.gauss(0, 0.01))
            ratio = math.exp(self.draw(self.source, len(self.rebuilds)))
            yield Turn(candidate={"wall": [reference * ratio]}, reference={"wall": [reference]})

    @override
    def rebuild(self) -> bool:
        self.rebuilds.append(True)
        return True


def scripted(draw: Draw) -> ScriptedComparison:
    return ScriptedComparison(SIDE, SIDE, [parse_figure("wall")], draw=draw)


def noise(source: random.Random, _: int) -> float:
    return source.gauss(0, 0.01)


def test_equal_programs_pass() -> None:
    judgement = judge_programs(scripted(noise), ProgramLimits())
    assert (judgement.verdict, judgement.was_repeated) == ("pass", False)
    assert [finding.name for finding in judgement.findings] == ["wall", "wall tail"]
    assert judgement.findings[0].n == 6
    assert "does not matter" in judgement.findings[0].figures


def test_a_slower_program_fails_twice() -> None:
    judgement = judge_programs(scripted(lambda source, _: 0.07 + source.gauss(0, 0.01)), ProgramLimits(tail=False))
    (finding,) = judgement.findings
    assert (judgement.verdict, judgement.was_repeated) == ("fail", True)
    assert finding.history.startswith("failed twice")
    assert finding.low is not None
    assert finding.low > 1.02


def test_an_effect_of_one_build_is_not_confirmed() -> None:
    judgement = judge_programs(
        scripted(lambda source, rebuilds: 0.1 * (rebuilds == 0) + source.gauss(0, 0.01)), ProgramLimits(tail=False)
    )
    assert (judgement.verdict, judgement.was_repeated) == ("pass", True)
    assert judgement.findings[0].history.startswith("failed once, but not when repeated")


def test_without_confirmation_it_fails() -> None:
    comparison = scripted(lambda source, rebuilds: 0.1 * (rebuilds == 0) + source.gauss(0, 0.01))
    assert judge_programs(comparison, ProgramLimits(tail=False), confirm=False).verdict == "fail"
    assert comparison.rebuilds == []


def test_a_wider_spread_fails_the_tail_alone() -> None:
    judgement = judge_programs(scripted(lambda source, _: source.gauss(0, 0.4)), ProgramLimits(turns=(20, 30, 40)))
    verdicts = {finding.name: finding.verdict for finding in judgement.findings}
    assert verdicts["wall tail"] == "fail"
    assert verdicts["wall"] != "fail"


def test_noise_is_inconclusive_not_a_pass() -> None:
    judgement = judge_programs(scripted(lambda source, _: source.gauss(0, 0.3)), ProgramLimits(tail=False))
    assert judgement.verdict == "inconclusive"
    assert judgement.findings[0].n == 40
    assert "more --turns" in judgement.findings[0].advice


def test_higher_can_be_better() -> None:
    figures = [parse_figure("json:rate")]
    turn = Turn(candidate={"json:rate": [90.0]}, reference={"json:rate": [100.0]})
    (lower,) = ProgramLimits(tail=False).of(figures)
    (higher,) = ProgramLimits(tail=False, higher_is_better=True).of(figures)
    assert (lower.finding([turn] * 6).verdict, higher.finding([turn] * 6).verdict) == ("pass", "fail")
    assert higher.finding([turn] * 6).better == "higher"
    assert higher.finding([turn] * 6).value == pytest.approx(0.9)


def test_equal_programs_rarely_fail() -> None:
    judged = [
        judge_programs(
            ScriptedComparison(SIDE, SIDE, [parse_figure("wall")], draw=noise, source=random.Random(seed)),
            ProgramLimits(),
            confirm=False,
        )
        for seed in range(200)
    ]
    assert sum(judgement.verdict == "fail" for judgement in judged) <= 2
    assert sum(judgement.verdict == "pass" for judgement in judged) > 150


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ProgramLimits(indifferent=0.05), "--indifferent 0.05 must be at least 0 and less than --must-find 0.05"),
        (ProgramLimits(tail_must_find=0.05), "--tail-indifferent 0.1 must be at least 0"),
        (ProgramLimits(turns=(6, 10)), "a tail limit needs 20 turns"),
        (ProgramLimits(turns=(10, 6)), "--turns 10,6 must grow"),
        (ProgramLimits(turns=()), "must grow"),
        (ProgramLimits(alpha=0.0), "--alpha 0 must be above 0"),
    ],
)
def test_limits_that_can_judge_nothing(limits: ProgramLimits, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge_programs(scripted(noise), limits)
