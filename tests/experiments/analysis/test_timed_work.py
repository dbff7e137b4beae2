"""Launches of honest cells, and of each way to cheat; figures are invented."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.audit import Problem, audit
from runtime_matrix.experiments.analysis.audit import problem as problem_of
from runtime_matrix.experiments.analysis.timed_work import is_exact, unchecked
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.comparison import (
    Block,
    Launch,
    PeakMemory,
    Repeated,
    Side,
    Speed,
    TimedTokens,
    Times,
    TokenRule,
)
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT, Entry, Load
from tests.experiments import recorded

TOKENS = TimedTokens(rows=20, same_rows=20, tokens=640, missing=0, forced=0, forced_top=0, max_gap=0.0)


def agreement(tokens: int, same_top: int) -> Entry:
    figures = {"continuation_tokens": tokens, "continuation_same_top": same_top}
    return Entry(benchmark="agreement", status="ok", figures=figures)


AGREEMENT = agreement(384, 330)
RECORD = recorded.make_record("custom")


def problem(compared: Speed, agreement: Entry) -> Problem | None:
    return problem_of(audit(replace(RECORD, benchmarks=[agreement]), compared))


def launch(between_s: float = 0.005, again: float = 1.0, rounds_cpu_s: float = 2.0, **tokens: Any) -> Launch:
    times = Times(wall_s=[0.003] * 20, cpu_s=[0.003] * 20)
    side = Side(prefill=times, decode=times, steps_s=[], rounds_cpu_s=rounds_cpu_s, between_cpu_s=between_s)
    return Launch(
        own=Block(candidate=side, reference=side, batch=1, prompt_tokens=[]),
        long=None,
        batched=None,
        one_thread=None,
        tokens=replace(TOKENS, **tokens),
        repeated=Repeated(fresh_s=[0.1, 0.1], again_s=[0.1 * again] * 2),
        candidate_memory=PeakMemory(),
        reference_memory=PeakMemory(),
        threads=2,
        device="cpu",
        machine=MachineChange(),
    )


def speed(*launches: Launch, rule: TokenRule = "exact") -> Speed:
    return replace(recorded.speed(launches), token_rule=rule)


def status(compared: Speed) -> str | None:
    wrong = problem(compared, AGREEMENT)
    return wrong.status if wrong else None


def test_honest_work_has_no_problem() -> None:
    assert problem(speed(launch(), launch(again=0.95)), AGREEMENT) is None
    near = launch(same_rows=19, forced=32, forced_top=31, max_gap=4e-4)  # a near tie came out the other way
    assert problem(speed(near), AGREEMENT) is None


def test_tokens_beyond_rounding_are_wrong_in_any_launch() -> None:
    wrong = launch(same_rows=0, forced=640, forced_top=0, max_gap=24.0)
    found = problem(speed(launch(), wrong), AGREEMENT)
    assert found is not None
    assert found.status == WRONG_OUTPUT
    assert found.reason.startswith("640 of 1,280 timed tokens are not the reference's")
    assert status(speed(launch(missing=3))) == WRONG_OUTPUT


@pytest.mark.parametrize(("top", "expected"), [(550, None), (520, None), (480, WRONG_OUTPUT), (0, WRONG_OUTPUT)])
def test_other_weights_must_agree_as_often_as_in_the_agreement_check(top: int, expected: str | None) -> None:
    """330 of 384 is 85.9 %; of 640 timed tokens that is 550."""
    assert status(speed(launch(forced=640, forced_top=top, max_gap=5.0), rule="share")) == expected


def test_equal_shares_are_called_wrong_once_in_a_thousand() -> None:
    source = random.Random(0)
    wrong = 0
    for _ in range(4000):
        top, other = (sum(source.random() < 0.85 for _ in range(n)) for n in (384, 640))
        counts = launch(forced=640, forced_top=other, max_gap=5.0)
        wrong += problem(speed(counts, rule="share"), agreement(384, top)) is not None
    assert wrong <= 9  # of 4 expected at most; 10 or more have a chance of 0.8 %


def test_without_an_agreement_check_the_tokens_are_unchecked() -> None:
    assert unchecked(speed(launch(), rule="share"), None, None) is not None
    assert unchecked(speed(launch(), rule="share"), AGREEMENT, None) is None
    assert unchecked(speed(launch()), None, None) is None
    whole = Load(phases_s={}, dtype="float32", device="cpu", takes_whole_requests=True)
    assert unchecked(speed(launch(), rule="share"), None, whole) is None  # there is no agreement check for them


def test_work_between_the_rounds_is_found_and_handover_is_ignored() -> None:
    found = problem(speed(launch(between_s=0.1)), AGREEMENT)
    assert found is not None
    assert found.status == INVALID_TIMING
    assert "for 5 % of their CPU time" in found.reason
    short = launch(between_s=0.008, rounds_cpu_s=0.2)  # 0.4 ms per round
    assert problem(speed(short), AGREEMENT) is None


def test_remembered_prompts_are_found_in_two_launches() -> None:
    assert status(speed(launch(again=0.01))) is None  # one launch may be chance
    assert status(speed(launch(again=0.01), launch(again=0.02))) == INVALID_TIMING
    assert status(speed(launch(again=0.01), launch(again=0.9))) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), True),
        (("runtime.engine.kv_dtype=float32",), True),
        (("runtime.engine.kv_dtype=float16",), False),
        (("runtime.engine.flash_attention=true",), False),
    ],
)
@pytest.mark.parametrize("preset", ["llamacpp", "llama_server"])
def test_rounded_keys_and_values_are_not_exact(preset: str, words: tuple[str, ...], expected: bool) -> None:
    composed = compose([f"runtime={preset}", "model=random", *words])
    assert is_exact(composed["runtime"], composed["reference"]) is expected
    assert is_exact(composed["reference"], composed["runtime"]) is expected
