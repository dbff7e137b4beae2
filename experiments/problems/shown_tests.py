"""Moves a problem's first tests into its prompt, as examples that the model sees and strategies may run.

They no longer judge: a test that a strategy knows says nothing about its answer. HumanEval's format gets doctest
lines at the end of the docstring; MBPP's keeps the first asserts that its prompt lists, and judges by the others.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import Problem

_MOST_SHOWN = 24  # characters of arguments or result: an example of a screenful explains nothing


def show_tests(problems: Sequence[Problem], count: int) -> list[Problem]:
    """Return the problems with `count` tests each in the prompt; UserError if a problem has too few such tests."""
    return [_shown(problem, count) for problem in problems]


def shows_all_tests(problem: Problem, shown: Sequence[str]) -> bool:
    """Return whether the asserts that a prompt shows are all that judge, as in MBPP."""
    if problem.calls_check or problem.suite is not None or problem.language is not None:
        return False
    hidden = {ast.unparse(test) for test in ast.parse(problem.test).body if isinstance(test, ast.Assert)}
    return bool(hidden) and hidden <= {ast.unparse(ast.parse(test).body[0]) for test in shown}


def _shown(problem: Problem, count: int) -> Problem:
    tree = ast.parse(problem.test)
    body = _check_body(tree) if problem.calls_check else tree.body
    called = "candidate" if problem.calls_check else problem.entry_point
    tests = [statement for statement in body if isinstance(statement, ast.Assert)]
    # MBPP's prompt has its tests anyway; of others, the longest say the most: an empty list is an example of little.
    told = [test for test in tests if not problem.calls_check or _told(test, called) is not None]
    chosen = sorted(told, key=lambda test: -len(ast.unparse(test)) if problem.calls_check else 0)[:count]
    if len(chosen) < count or len(tests) == count:
        raise UserError(
            f"benchmark.code.shown_tests={count}: {problem.id} has {len(told)} tests short enough to show, and one "
            "must remain to judge by: lower it, or set it to null"
        )
    lines = [ast.unparse(statement) for statement in body if statement in chosen]
    for statement in chosen:
        body.remove(statement)
    prompt = _with_doctest(problem, lines) if problem.calls_check else _with_listed(problem, lines)
    head = prompt if problem.head == problem.prompt else problem.head
    helpers = problem.helpers.replace(problem.prompt, prompt)
    return replace(problem, prompt=prompt, head=head, helpers=helpers, test=ast.unparse(tree) + "\n")


def _check_body(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of `check(candidate)`, to be changed in place."""
    return next(
        statement.body
        for statement in tree.body
        if isinstance(statement, ast.FunctionDef) and statement.name == "check"
    )


def _told(statement: ast.stmt, called: str) -> tuple[ast.Call, ast.expr] | None:
    """Return the call and the result of `assert f(literals) == literal`, if both are short; None for any other."""
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
        return None
    call, others = statement.test.left, statement.test.comparators
    if not isinstance(call, ast.Call) or not isinstance(statement.test.ops[0], ast.Eq) or len(others) != 1:
        return None
    if not isinstance(call.func, ast.Name) or call.func.id != called or call.keywords:
        return None
    try:
        for part in (*call.args, others[0]):
            ast.literal_eval(part)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    arguments = ", ".join(map(ast.unparse, call.args))
    is_short = max(len(arguments), len(ast.unparse(others[0]))) <= _MOST_SHOWN
    return (call, others[0]) if is_short else None


def _with_doctest(problem: Problem, lines: Sequence[str]) -> str:
    """Return the prompt with examples before the quotes that end its docstring."""
    text = problem.prompt.rstrip()
    quotes = text[-3:]
    if quotes not in ('"""', "'''"):
        raise UserError(f"benchmark.code.shown_tests: the prompt of {problem.id} does not end with a docstring")
    examples = ""
    for line in lines:
        test = ast.parse(line).body[0]
        told = _told(test, "candidate")
        assert told is not None
        arguments = ", ".join(map(ast.unparse, told[0].args))
        examples += f"    >>> {problem.entry_point}({arguments})\n    {ast.unparse(told[1])}\n"
    return f"{text[:-3].rstrip()}\n\n{examples}    {quotes}\n"


def _with_listed(problem: Problem, lines: Sequence[str]) -> str:
    """Return MBPP's prompt with these asserts only."""
    text = problem.prompt.strip().strip('"').strip()
    kept = [line for line in text.splitlines() if not line.strip().startswith("assert ")]
    return '"""\n' + "\n".join([*kept, *lines]) + '\n"""\n'
