"""Rounds of repair, with what the model is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.strategies.examples import Example
from runtime_matrix.experiments.strategies.refine import STRATEGY, RefineConfig
from runtime_matrix.experiments.strategies.strategy import Generate, Hidden, Request, RunTests
from tests.experiments.strategies.scripted import PROBLEM, Results, solve, world

CONFIG = RefineConfig(plain_samples=2, plain_temperature=0.8, rounds=2, feedback="visible", examples="leave_out")


def repairs(log: list[Request]) -> list[str]:
    return [request.prompt for request in log if isinstance(request, Generate) and request.turn]


def wrong_then(texts: list[str], log: list[Request], returns: Callable[[str], list[object] | None]) -> Results:
    return world(texts, passes=lambda text: "right" in text, returns=returns, log=log)


def test_the_failing_call_is_told_behind_the_program() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, wrong_then(["    wrong\n", "    right\n"], log, lambda text: [5]))
    assert answer.text == "    right\n"
    prompt = 'def double(x):\n    """Double it."""\n'
    assert repairs(log) == [f"{prompt}    wrong\n\n# double(2): expected 4, got 5\n{prompt}"]
    assert answer.stages == {"round 0": "    wrong\n", "round 1": "    right\n", "round 2": "    right\n"}
    assert answer.figures == {"repairs": 1.0, "changed": 1.0}


def test_examples_can_be_kept_in_the_prompt() -> None:
    log: list[Request] = []
    solve(STRATEGY, replace(CONFIG, examples="keep"), wrong_then(["wrong", "right"], log, lambda text: [5]))
    assert repairs(log)[0].count(PROBLEM.prompt) == 2


@pytest.mark.parametrize(
    ("returns", "got"),
    [([ZeroDivisionError()], "ZeroDivisionError"), (None, "the program ended"), ([4], "AssertionError")],
)
def test_what_a_failing_call_gave(returns: list[object] | None, got: str) -> None:
    log: list[Request] = []
    solve(STRATEGY, CONFIG, wrong_then(["wrong", "right"], log, lambda text: returns))
    assert f"# double(2): expected 4, got {got}" in repairs(log)[0]


def test_a_text_that_passes_is_left_alone() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, world(["right"], log=log))
    assert (answer.text, repairs(log), answer.figures["repairs"]) == ("right", [], 0.0)


def test_rounds_end_and_each_has_its_own_seed() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, wrong_then(["wrong 0", "wrong 1", "wrong 2", "wrong 3"], log, lambda text: [5]))
    assert answer.text == "wrong 2"
    assert [request.turn for request in log if isinstance(request, Generate)] == ["", "refine 1", "refine 2"]
    assert "wrong 1" in repairs(log)[1]
    assert "wrong 0" not in repairs(log)[1]


def test_a_repair_that_changes_nothing_ends_the_rounds() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, wrong_then(["wrong", "wrong", "right"], log, lambda text: [5]))
    assert (answer.text, len(repairs(log))) == ("wrong", 1)


def test_a_problem_without_examples_is_answered_greedily() -> None:
    answer = solve(STRATEGY, CONFIG, world(["wrong"], passes=lambda text: False), replace(PROBLEM, examples=()))
    assert (answer.text, answer.figures["repairs"]) == ("wrong", 0.0)


def test_an_example_that_is_no_plain_call_is_told_with_its_error() -> None:
    log: list[Request] = []
    problem = replace(PROBLEM, examples=(Example("round(double(2))", "4"),))
    solve(STRATEGY, CONFIG, world(["wrong", "right"], passes=lambda text: text == "right", log=log), problem)
    assert "# round(double(2)): expected 4, got AssertionError double(2) == 4" in repairs(log)[0]


def test_only_feedback_hidden_sees_hidden_tests_and_says_so() -> None:
    for feedback in ("visible", "hidden"):
        log: list[Request] = []
        config = replace(CONFIG, feedback=feedback)
        solve(STRATEGY, config, wrong_then(["wrong", "right"], log, lambda text: [5]))
        assert any(isinstance(request, Hidden) for request in log) == (feedback == "hidden")
        assert any(isinstance(request, RunTests) for request in log) == (feedback == "visible")
        assert (STRATEGY.leaks(config) is None) == (feedback == "visible")


def test_a_long_value_is_cut() -> None:
    log: list[Request] = []
    solve(STRATEGY, CONFIG, wrong_then(["wrong", "right"], log, lambda text: [10**400]))
    assert len(repairs(log)[0]) < 500


def test_more_than_three_rounds_are_refused() -> None:
    with pytest.raises(UserError, match="rounds=4"):
        STRATEGY.check(replace(CONFIG, rounds=4))
