"""Programming problems in the formats of HumanEval and MBPP: prompts and tests. Does not run programs."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks import files

_WANTED = "a JSONL (or .jsonl.gz) in HumanEval's or MBPP's format"
_HUMANEVAL = ("task_id", "prompt", "entry_point", "test")
_MBPP = ("task_id", "text", "test_list")


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


def load(path: Path, limit: int | None = None, fields: Mapping[str, str] | None = None) -> list[Problem]:
    """Read problems; UserError gives the line and the missing or unusable field."""
    problems = [_problem(where, item) for where, item in files.json_lines(path, _WANTED, fields)]
    if not problems:
        raise UserError(f"{path} holds no problem; give {_WANTED}")
    files.check_unique((problem.id for problem in problems), path)
    return problems[:limit]


def load_solutions(path: Path, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Read completions from JSON lines of `task_id` and `completion`, any number per problem.

    Raises UserError for an unknown task_id and for a problem without a completion.
    """
    known = {problem.id for problem in problems}
    completions: dict[str, list[str]] = {}
    for where, item in files.json_lines(path, "JSON lines of task_id and completion"):
        if not isinstance(item.get("completion"), str):
            raise UserError(f"{where}: has no completion; give JSON lines of task_id and completion")
        name = str(item.get("task_id"))
        if name not in known:
            raise UserError(f"{where}: the task_id {name!r} is not one of the problems")
        completions.setdefault(name, []).append(item["completion"])
    missing = [problem.id for problem in problems if problem.id not in completions]
    if missing:
        raise UserError(f"{path} has no completion of {missing[0]!r} and {len(missing) - 1} other problems")
    return completions


def references(problems: Sequence[Problem], path: Path) -> dict[str, list[str]]:
    """Return each problem's reference solution; UserError if one is missing."""
    for problem in problems:
        if problem.reference is None:
            raise UserError(f"{path}: {problem.id!r} has no reference solution; use solutions=model")
    return {problem.id: [str(problem.reference)] for problem in problems}


def _problem(where: str, item: JsonObject) -> Problem:
    if "entry_point" in item or "prompt" in item:
        return _humaneval(where, item)
    return _mbpp(where, item)


def _humaneval(where: str, item: JsonObject) -> Problem:
    if "plus_input" in item:
        raise UserError(
            f"{where}: HumanEval+ is not scored: its added tests are inputs (plus_input), and `test` holds only the "
            "base tests; give HumanEval.jsonl"
        )
    _require(where, item, _HUMANEVAL)
    prompt, entry, test = item["prompt"], item["entry_point"], item["test"]
    if not isinstance(test, str) or "def check(" not in test:
        raise UserError(f"{where}: {item['task_id']} has no tests: `test` must define check(candidate)")
    _parse(where, item["task_id"], "test", test)
    reference = item.get("canonical_solution")
    if entry not in _functions(prompt + (reference or "    pass\n")):
        raise UserError(f"{where}: {item['task_id']} does not define its entry point {entry!r} in its prompt")
    helpers = prompt + "    pass\n"  # the prompt ends within the entry point, whose stub replaces it
    if len(_functions(helpers)) == 1:
        helpers = ""
    return Problem(str(item["task_id"]), prompt, prompt, entry, test, True, reference, helpers)


def _mbpp(where: str, item: JsonObject) -> Problem:
    _require(where, item, _MBPP)
    tests = item["test_list"]
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise UserError(f"{where}: the test_list of {item['task_id']} is not a list of strings; give {_WANTED}")
    listed = "\n".join(tests)
    # The code runs before the setup, because some setups use what the code imports.
    test = f"{item.get('test_setup_code') or ''}\n{listed}\n"
    tree = _parse(where, item["task_id"], "test_list", test)
    code = item.get("code")
    entry = _entry_point(tree, code)
    if entry is None:
        raise UserError(f"{where}: {item['task_id']} has no entry point: its tests call no function of its code")
    prompt = f'"""\n{item["text"].strip()}\n{listed}\n"""\n'
    return Problem(str(item["task_id"]), prompt, "", entry, test, False, code)


def _require(where: str, item: JsonObject, fields: Sequence[str]) -> None:
    for name in fields:
        if not item.get(name) and item.get(name) != 0:
            raise UserError(f"{where}: {item.get('task_id', 'the problem')} has no {name}; give {_WANTED}")
    for name in ("prompt", "entry_point", "test", "canonical_solution", "text", "code", "test_setup_code"):
        if not isinstance(item.get(name) or "", str):
            raise UserError(f"{where}: the {name} of {item['task_id']} is not a string; give {_WANTED}")


def _parse(where: str, name: object, field: str, code: str) -> ast.Module:
    try:
        return _tree(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = str(error) or "too deep"
        raise UserError(f"{where}: {name}: its {field} is not valid Python: {why}") from error


def _tree(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        return ast.parse(code)


def _functions(code: str) -> set[str]:
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


def _entry_point(test: ast.Module, code: str | None) -> str | None:
    """Return the first function that the tests call; with `code`, the first that the code defines. None if none."""
    called = [node.func.id for node in ast.walk(test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    defined = _functions(code) if code is not None else set(called)
    return next((name for name in called if name in defined), None)
