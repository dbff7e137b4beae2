"""MBPP: a sentence with asserts as its test. Reads whatever no other format claims."""

from __future__ import annotations

import ast

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems.formats.format import (
    WANTED,
    Problem,
    ProblemFormat,
    functions,
    parse,
    require,
)

_FIELDS = ("task_id", "text", "test_list")


def _read(where: str, item: JsonObject) -> Problem:
    require(where, item, _FIELDS)
    tests = item["test_list"]
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise UserError(f"{where}: the test_list of {item['task_id']} is not a list of strings; give {WANTED}")
    listed = "\n".join(tests)
    # The code runs before the setup, because some setups use what the code imports.
    test = f"{item.get('test_setup_code') or ''}\n{listed}\n"
    tree = parse(where, item["task_id"], "test_list", test)
    code = item.get("code")
    entry = _entry_point(tree, code)
    if entry is None:
        raise UserError(f"{where}: {item['task_id']} has no entry point: its tests call no function of its code")
    prompt = f'"""\n{item["text"].strip()}\n{listed}\n"""\n'
    return Problem(str(item["task_id"]), prompt, "", entry, test, False, code)


def _entry_point(test: ast.Module, code: str | None) -> str | None:
    """Return the first function that the tests call; with `code`, the first that the code defines. None if none."""
    called = [node.func.id for node in ast.walk(test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    defined = functions(code) if code is not None else set(called)
    return next((name for name in called if name in defined), None)


FORMAT = ProblemFormat(0, lambda item: True, _read)
