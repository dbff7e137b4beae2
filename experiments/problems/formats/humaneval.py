"""HumanEval: a prompt that ends within a function, and `check(candidate)` as its test."""

from __future__ import annotations

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems.formats.format import (
    Problem,
    ProblemFormat,
    functions,
    parse,
    require,
)

_FIELDS = ("task_id", "prompt", "entry_point", "test")


def _claims(item: JsonObject) -> bool:
    return "entry_point" in item or "prompt" in item


def _read(where: str, item: JsonObject) -> Problem:
    require(where, item, _FIELDS)
    prompt, entry, test = item["prompt"], item["entry_point"], item["test"]
    if not isinstance(test, str) or "def check(" not in test:
        raise UserError(f"{where}: {item['task_id']} has no tests: `test` must define check(candidate)")
    parse(where, item["task_id"], "test", test)
    reference = item.get("canonical_solution")
    if entry not in functions(prompt + (reference or "    pass\n")):
        raise UserError(f"{where}: {item['task_id']} does not define its entry point {entry!r} in its prompt")
    helpers = prompt + "    pass\n"  # the prompt ends within the entry point, whose stub replaces it
    if len(functions(helpers)) == 1:
        helpers = ""
    return Problem(str(item["task_id"]), prompt, prompt, entry, test, True, reference, helpers)


FORMAT = ProblemFormat(1, _claims, _read)
