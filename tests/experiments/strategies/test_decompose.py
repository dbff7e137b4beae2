"""Helper functions first, then the function that may call them."""

from __future__ import annotations

from runtime_matrix.experiments.strategies.decompose import STRATEGY, DecomposeConfig, functions, helpers_prompt
from runtime_matrix.experiments.strategies.strategy import Generate, Request
from tests.experiments.strategies.scripted import PROBLEM, solve, world

CONFIG = DecomposeConfig(plain_samples=2, plain_temperature=0.8, helpers=1)
HELPERS = "twice(x):\n    return 2 * x\n\ndef more(x):\n    return x\n\ndef broken(x"


def test_helpers_stand_before_the_prompt_and_in_the_program() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, world([HELPERS, "    return twice(x)\n"], log=log))
    helper, main = [request for request in log if isinstance(request, Generate)]
    assert helper.prompt == helpers_prompt(PROBLEM)
    assert "\ndef " not in helper.stop
    assert main.prompt == f"def twice(x):\n    return 2 * x\n\n\n{PROBLEM.prompt}"
    namespace: dict[str, object] = {}
    exec(PROBLEM.head + answer.text, namespace)
    assert namespace["double"](4) == 8  # type: ignore[operator]
    assert answer.figures == {"helpers": 1.0, "called": 1.0}


def test_without_a_valid_helper_the_problem_is_answered_greedily() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, world(["broken(x", "    return x\n"], log=log))
    assert (answer.text, answer.figures["helpers"]) == ("    return x\n", 0.0)
    assert isinstance(log[-1], Generate)
    assert log[-1].prompt == PROBLEM.prompt


def test_a_helper_that_calls_nothing_is_counted_as_not_called() -> None:
    answer = solve(STRATEGY, CONFIG, world([HELPERS, "    return 2 * x\n"]))
    assert answer.figures["called"] == 0.0


def test_the_entry_point_is_no_helper_and_nothing_is_run() -> None:
    assert functions("def double(x):\n    return 0\n\ndef f():\n    raise SystemExit\n", "double") == {
        "f": "def f():\n    raise SystemExit"
    }
    assert functions("def double(", "double") == {}
