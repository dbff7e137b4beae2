"""The inputs of a problem's function: those of its tests, and further ones like them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from runtime_matrix.experiments.problems.loading import Problem
from runtime_matrix.experiments.sandbox.values import loads
from runtime_matrix.experiments.strategies.examples import examples
from runtime_matrix.experiments.strategies.inputs import mutated

Inputs = list[tuple[object, ...]]


def inputs_of_tests(problem: Problem) -> Inputs:
    """Return the inputs of a problem's tests, as far as they are literals, and of its prompt's examples."""
    if problem.suite is not None:
        return [tuple(loads(arguments)) for arguments in (*problem.suite.base, *problem.suite.plus)]
    shown = [example.arguments for example in examples(problem.prompt, problem.entry_point)]
    return [*_called(problem), *(arguments for arguments in shown if arguments is not None)]


def further_inputs(problem: Problem, count: int, seed: int) -> Inputs:
    """Return up to `count` inputs made from those of the tests by type-aware mutation; none without any."""
    return mutated(inputs_of_tests(problem), count, seed)


def _called(problem: Problem) -> Iterator[tuple[object, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        tree = ast.parse(problem.test)
    names = {problem.entry_point, "candidate"} if problem.calls_check else {problem.entry_point}
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        if is_call and isinstance(node, ast.Call) and not node.keywords:
            arguments = _literals(node.args)
            if arguments is not None:
                yield arguments


def _literals(arguments: Sequence[ast.expr]) -> tuple[object, ...] | None:
    try:
        return tuple(ast.literal_eval(argument) for argument in arguments)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
