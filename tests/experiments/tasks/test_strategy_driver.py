"""Requests of all problems served together, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from typing_extensions import override

from runtime_matrix.experiments.evaluation.requests import (
    Continuations,
    Decoding,
    Generated,
    Scored,
    ScoreRequest,
    TextPrompt,
)
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    execute,
    generate,
    judge_hidden,
    likelihoods,
    run_tests,
)
from runtime_matrix.experiments.tasks.bench import Answers, Bench
from runtime_matrix.experiments.tasks.strategy_driver import Call, Cost, Driver, TextSource
from tests.experiments.strategies.scripted import PROBLEM

CONFIG = StrategyConfig(plain_samples=2, plain_temperature=0.8)
PROBLEMS = [PROBLEM, replace(PROBLEM, id="t/1", prompt="def triple(x):\n"), replace(PROBLEM, id="t/2", examples=())]


class Words:
    """A tokenizer of one token per character."""

    def prompt(self, text: str, new_tokens: int) -> tuple[tuple[int, ...], bool]:
        return tuple(range(len(text))), False

    def continuations(self, contexts: Sequence[Continuations]) -> list[tuple[list[ScoreRequest], bool]]:
        return [
            ([ScoreRequest(tuple(range(len(context.context + ending))), 1) for ending in context.endings], False)
            for context in contexts
        ]


class Skipped(Exception):
    """Raised in place of pytest's exception."""


@dataclass
class FakeBench:
    """Writes texts that name their prompt's id and sample, and counts the calls."""

    seed: int = 0
    calls: list[tuple[int, Decoding]] = field(default_factory=list)

    def require_text(self) -> Words:
        return Words()

    def skip(self, reason: str) -> None:
        raise Skipped(reason)

    def answers(self, prompts: Sequence[TextPrompt], decoding: Decoding) -> Answers:
        self.calls.append((len(prompts), decoding))
        texts = [
            [Generated((1, 2, 3), f"{prompt.id} {sample}", "eos") for sample in range(decoding.samples)]
            for prompt in prompts
        ]
        return Answers(texts, {"cached_responses": 1})

    def scorer(self, requests: int) -> FakeBench:
        return self

    def scores(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for request in requests:
            yield Scored((-1.0 * len(request.ids), 0.0), (0.0, 0.0))


@dataclass
class FakePrograms:
    """Passes programs whose code ends in 1."""

    ran: list[Program] = field(default_factory=list)

    def verdicts(self, programs: Sequence[tuple[int, Program]]) -> list[Verdict]:
        self.ran += [program for _, program in programs]
        return [Verdict("passed" if program.code.endswith("1") else "failed", "", 0.5, 0.5) for _, program in programs]

    def outputs(self, calls: Sequence[Call]) -> list[Outputs]:
        return [Outputs("finished", "", (Output(call.code[-1]),), None, 0.1) for call in calls]


class All(Strategy[StrategyConfig]):
    """Uses every kind of request."""

    name = "all"
    about = "All requests."
    needs_examples = True

    @override
    def solve(self, problem: Visible, config: StrategyConfig, seed: int) -> Steps[Answer]:
        texts = yield from generate(problem, samples=2, temperature=0.8)
        more = yield from generate(problem, "another prompt", turn="more")
        candidates = [text.text for text in (*texts, *more)]
        checked = yield from run_tests(candidates, ["assert double(2) == 4"])
        outputs = yield from execute(candidates[:1], [(2,)])
        means = yield from likelihoods(problem.prompt, ["", "ab"])
        hidden = yield from judge_hidden(candidates[1])
        return Answer(
            candidates[[one.passed for one in checked].index(True)],
            figures={
                "mean": means[1],
                "empty": float(means[0] == float("-inf")),
                "hidden": float(hidden.passed),
                "outputs": float(outputs[0].outputs[0].text),
            },
        )


def driver(bench: FakeBench, programs: FakePrograms, given: dict[str, list[str]] | None = None) -> Driver:
    def hidden(item: int, text: str) -> Program:
        return Program(text, "hidden", "double", True)

    source = TextSource(cast(Bench, bench))
    return Driver(cast(Bench, bench), programs, hidden, source, 64, given)


def test_requests_of_all_problems_are_served_together() -> None:
    bench, programs = FakeBench(), FakePrograms()
    driven = driver(bench, programs)
    answers = driven.solve(All(), CONFIG, PROBLEMS)
    assert [answer.text for answer in answers] == ["t/0 1", "t/1 1", "t/2 0"]
    # Both problems with examples in one call each; the greedy text of the third beside the first call.
    assert [(count, decoding.samples, decoding.temperature) for count, decoding in bench.calls] == [
        (2, 2, 0.8),
        (1, 1, 0.0),
        (2, 1, 0.0),
    ]
    assert bench.calls[0][1].stop == PROBLEM.stop
    assert answers[0].figures == {"mean": -(len(PROBLEM.prompt) + 2) / 2, "empty": 1.0, "hidden": 1.0, "outputs": 0.0}


def test_costs_count_what_each_problem_took() -> None:
    driven = driver(FakeBench(), FakePrograms())
    driven.solve(All(), CONFIG, PROBLEMS)
    prompt = len(PROBLEM.prompt)
    assert driven.costs[0] == Cost(
        new_tokens=9,
        prompt_tokens=prompt + len("another prompt") + prompt + 2,
        turns=2,
        programs=5,
        programs_cpu_s=None,  # that of the outputs is unknown
    )
    assert driven.costs[2] == Cost(new_tokens=3, prompt_tokens=prompt, turns=1)


def test_programs_are_the_head_with_a_completion_and_see_visible_tests_only() -> None:
    programs = FakePrograms()
    driver(FakeBench(), programs).solve(All(), CONFIG, PROBLEMS[:1])
    visible, hidden = programs.ran[:3], programs.ran[3:]
    assert [program.code for program in visible] == [
        f"{PROBLEM.head}{text}" for text in ("t/0 0", "t/0 1", "t/0/more 0")
    ]
    assert {program.test for program in visible} == {"assert double(2) == 4\n"}
    assert [program.test for program in hidden] == ["hidden"]


def test_texts_are_generated_once() -> None:
    bench = FakeBench()
    source = TextSource(cast(Bench, bench))
    prompts = [TextPrompt("a", "x"), TextPrompt("b", "y")]
    first = source.get(prompts[:1], Decoding(8, ()))
    assert source.get(prompts, Decoding(8, ()))[0] is first[0]
    assert [count for count, _ in bench.calls] == [1, 1]
    source.get(prompts, Decoding(8, (), temperature=0.8))
    assert source.cached_responses == 3


class Twice(Strategy[StrategyConfig]):
    name = "twice"
    about = "Two turns of plain requests."

    @override
    def solve(self, problem: Visible, config: StrategyConfig, seed: int) -> Steps[Answer]:
        first = yield from generate(problem)
        second = yield from generate(problem, samples=3, temperature=0.8, turn="2")
        third = yield from generate(problem, turn="3")
        return Answer(first[0].text, tuple(text.text for text in (*second, *third)))


def test_given_solutions_are_taken_in_turn() -> None:
    given = {problem.id: ["a", "b", "c"] for problem in PROBLEMS}
    bench = FakeBench()
    driven = driver(bench, FakePrograms(), given)
    (answer, *_) = driven.solve(Twice(), CONFIG, PROBLEMS)
    assert (answer.text, answer.candidates) == ("a", ("b", "c"))
    assert bench.calls == []
    assert driven.costs[0].new_tokens == 0


def test_given_solutions_answer_no_other_prompt() -> None:
    given: dict[str, Any] = {problem.id: ["a", "b", "c"] for problem in PROBLEMS}
    with pytest.raises(Skipped, match="prompts of its own, which given solutions do not answer"):
        driver(FakeBench(), FakePrograms(), given).solve(All(), CONFIG, PROBLEMS)
