"""A format of programming problems: which objects of a file are of it, and how one is read."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.sandbox.cases import Cases, Suite

WANTED = "a JSONL (or .jsonl.gz) in HumanEval's, MBPP's or EvalPlus's format"


@dataclass(frozen=True)
class Problem:
    """A programming problem, independent of its format."""

    id: str
    prompt: str  # what the model continues
    head: str  # a program is this text followed by a completion
    entry_point: str  # the function that the test calls
    test: str  # Python that runs after the program; defines `check(candidate)` where `calls_check`
    calls_check: bool
    reference: str | None  # a completion that passes
    helpers: str = ""  # functions of the prompt that the test calls besides the entry point
    suite: Suite | None = None  # base and added tests as inputs, in place of `test`
    cases: Cases | None = None  # the suite's inputs with their expected outputs, once the reference has run
    language: str | None = None  # of program and test, as `sandbox/interpreters.py` names them; None: Python
    stop: tuple[str, ...] | None = None  # where a completion ends; None: as in Python


@dataclass(frozen=True)
class ProblemFormat:
    """A format of problems, one JSON object each."""

    priority: int  # the format with the highest one reads an object that several claim
    claims: Callable[[JsonObject], bool]  # whether an object is of this format, by the names of its fields
    read: Callable[[str, JsonObject], Problem]  # (location, object); UserError starts with the location


def require(where: str, item: JsonObject, fields: Sequence[str]) -> None:
    """Raise UserError for a missing field, and for a known field of text that is not text."""
    for name in fields:
        if not item.get(name) and item.get(name) != 0:
            raise UserError(f"{where}: {item.get('task_id', 'the problem')} has no {name}; give {WANTED}")
    for name in ("prompt", "entry_point", "test", "canonical_solution", "text", "code", "test_setup_code"):
        if not isinstance(item.get(name) or "", str):
            raise UserError(f"{where}: the {name} of {item['task_id']} is not a string; give {WANTED}")


def parse(where: str, name: object, field: str, code: str) -> ast.Module:
    """Return the syntax tree of a problem's code; UserError if it is not Python."""
    try:
        return _tree(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = str(error) or "too deep"
        raise UserError(f"{where}: {name}: its {field} is not valid Python: {why}") from error


def functions(code: str) -> set[str]:
    """Return the names of functions, classes and constants that code defines; none if it is not Python."""
    try:
        tree = _tree(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _tree(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        return ast.parse(code)
