"""Samples that agree on generated tests."""

from __future__ import annotations

from runtime_matrix.experiments.strategies.codet import STRATEGY, CodetConfig, most_agreed
from runtime_matrix.experiments.strategies.strategy import Execute, Generate, Request
from tests.experiments.strategies.scripted import solve, world

CONFIG = CodetConfig(plain_samples=2, plain_temperature=0.8, samples=3, test_samples=2, tests=4, temperature=0.8)
ASSERTS = ["assert double(1) == 2\nassert double(2) == 5\n", "assert double(1) == 2\nassert double(x) == 2\nassert (\n"]


RETURNS: dict[str, list[object] | None] = {
    "doubles": [2, 4],
    "is a double": [2, 4],
    "adds one": [2, 3],
    "matches the wrong": [0, 5],
    "ends": None,
}


def returns(text: str) -> list[object] | None:
    return RETURNS[text]


def test_the_largest_agreement_wins() -> None:
    log: list[Request] = []
    answer = solve(
        STRATEGY, CONFIG, world(["matches the wrong", "doubles", "adds one", *ASSERTS], returns=returns, log=log)
    )
    assert answer.text == "doubles"  # two samples pass the first assert, one the second
    assert answer.tests == ("assert double(1) == 2", "assert double(2) == 5")
    assert answer.figures["written_asserts"] == 5
    assert answer.figures["parsed_asserts"] == 3 / 5
    assert answer.figures["agreement"] == 2 / 3
    (execution, *_) = [request for request in log if isinstance(request, Execute)]
    assert execution.inputs == ((1,), (2,))


def test_tests_are_asked_without_the_examples_and_may_have_asserts() -> None:
    log: list[Request] = []
    solve(STRATEGY, CONFIG, world(["doubles", "adds one", "doubles", *ASSERTS], returns=returns, log=log))
    _, request = [request for request in log if isinstance(request, Generate)]
    assert request.prompt == 'def double(x):\n    """Double it."""\n    pass\n\n# tests\n'
    assert not any(stop.strip() == "assert" for stop in request.stop)
    assert (request.samples, request.turn) == (2, "codet tests")


def test_without_a_test_the_first_sample_is_the_answer() -> None:
    answer = solve(STRATEGY, CONFIG, world(["doubles", "adds one", "ends", "none", "here"], returns=returns))
    assert (answer.text, answer.tests, answer.figures["without_tests"]) == ("doubles", (), 1.0)


def test_a_program_that_crashes_passes_nothing() -> None:
    answer = solve(STRATEGY, CONFIG, world(["ends", "ends", "doubles", *ASSERTS], returns=returns))
    assert answer.text == "doubles"


def test_agreement_is_samples_times_tests() -> None:
    assert most_agreed([frozenset({1}), frozenset({1, 2, 3}), frozenset({1})]) == (1, 1)  # 3 against 2
    assert most_agreed([frozenset({1}), frozenset({2, 3}), frozenset({1})]) == (0, 2)  # equal: the first
    assert most_agreed([frozenset(), frozenset(), frozenset({4})]) == (2, 1)
