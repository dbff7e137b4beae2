"""Runs a strategy's generator with scripted results, without a model and a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.strategies.examples import Example
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Checked,
    Execute,
    Generate,
    Hidden,
    Likelihood,
    Request,
    RunTests,
    Strategy,
    StrategyConfig,
    Text,
    Visible,
)

PROBLEM = Visible(
    "t/0",
    'def double(x):\n    """Double it.\n\n    >>> double(2)\n    4\n    """\n',
    'def double(x):\n    """Double it."""\n',
    "double",
    (Example("double(2)", "4"),),
    ("\ndef ",),
)
Results = Callable[[Request], object]


def solve(strategy: Strategy[Any], config: StrategyConfig, result: Results, problem: Visible = PROBLEM) -> Answer:
    """Return the strategy's answer where each request gets `result(request)`."""
    steps = strategy.solve(problem, config, 0)
    results: Any = None
    while True:
        try:
            results = [result(request) for request in steps.send(results)]
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def world(
    texts: Sequence[str],
    *,
    passes: Callable[[str], bool] = lambda text: True,
    returns: Callable[[str], Sequence[object] | None] = lambda text: [],
    likelihood: Callable[[str], float] = lambda text: 0.0,
    log: list[Request] | None = None,
) -> Results:
    """Return results of a model that writes `texts` in turn, and of a sandbox in which programs behave as told.

    `returns` gives a program's outputs, an exception for a call that raises; None for a program that crashes.
    """
    left = list(texts)

    def result(request: Request) -> object:
        if log is not None:
            log.append(request)
        if isinstance(request, Generate):
            taken = [left.pop(0) for _ in range(min(request.samples, len(left)))]
            return [Text(text, len(text)) for text in taken]
        if isinstance(request, Likelihood):
            return likelihood(request.text)
        if isinstance(request, Execute):
            values = returns(request.text)
            if values is None:
                return Outputs("crash", "the program ended", (), 0.01, 0.01)
            outputs = (
                Output(type(value).__name__, True) if isinstance(value, Exception) else Output(repr(value))
                for value in values
            )
            return Outputs("finished", "", tuple(outputs), 0.01, 0.01)
        assert isinstance(request, RunTests | Hidden)
        passed = passes(request.text)
        return Checked(passed, "passed" if passed else "failed", "" if passed else "AssertionError double(2) == 4")

    return result
