"""HumanEval+ and MBPP+: base and added tests as inputs, whose outputs are those of the reference solution.

Source: EvalPlus (Liu et al. 2023, arXiv 2305.01210). The field `test`, which holds base tests only, is not used.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems.formats.format import Problem, ProblemFormat, functions, parse, require
from runtime_matrix.experiments.problems.formats.mbpp_types import typed
from runtime_matrix.experiments.sandbox.cases import Suite
from runtime_matrix.experiments.sandbox.values import dumps

_WANTED = "HumanEvalPlus.jsonl or MbppPlus.jsonl as EvalPlus releases them"
_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution")
# Fails every program until the expected outputs are there: without them no test could.
_UNKNOWN = "raise AssertionError('the expected outputs are not known')\n"
# Problems with several right answers: of `sandbox/comparison.py`, by set and entry point.
_ORACLES = {
    ("HumanEval", "find_zero"): "root",
    ("Mbpp", "are_equivalent"): "anything",
    ("Mbpp", "sum_div"): "or_zero",
    ("Mbpp", "surface_Area"): "surface_of_pyramid",
    ("Mbpp", "digit_distance_nums"): "digit_distance",
    **{("Mbpp", name): "not_none" for name in ("check_str", "text_match_three", "text_starta_endb")},
    **{
        ("Mbpp", name): "same_set"
        for name in (
            "similar_elements",
            "find_char_long",
            "common_in_nested_lists",
            "extract_singly",
            "larg_nnum",
            "intersection_array",
            "find_dissimilar",
            "Diff",
        )
    },
}


def _claims(item: JsonObject) -> bool:
    return "plus_input" in item or "base_input" in item


def _read(where: str, item: JsonObject) -> Problem:
    require(where, item, _FIELDS)
    name, prompt, entry = str(item["task_id"]), item["prompt"], item["entry_point"]
    reference = prompt + item["canonical_solution"]
    tree = parse(where, name, "canonical_solution", reference)
    if entry not in functions(reference):
        raise UserError(f"{where}: {name} does not define its entry point {entry!r}")
    kind = name.partition("/")[0]
    base, plus = (_inputs(where, item, field) for field in ("base_input", "plus_input"))
    if not base:
        raise UserError(f"{where}: the base_input of {name} is empty; give {_WANTED}")
    suite = Suite(
        name=f"{where}: {name}",
        reference=reference,
        validity=_validity(where, name, item.get("contract") or "", tree, entry),
        entry_point=entry,
        base=base,
        plus=plus,
        atol=_tolerance(where, item),
        oracle=_ORACLES.get((kind, entry), "equal"),
    )
    return Problem(name, prompt, prompt, entry, _UNKNOWN, False, item["canonical_solution"], suite=suite)


def _inputs(where: str, item: JsonObject, field: str) -> tuple[str, ...]:
    """Return the lists of arguments of a field, encoded."""
    rows = item.get(field)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        found = "missing" if rows is None else "not a list of lists of arguments"
        raise UserError(
            f"{where}: the {field} of {item['task_id']} is {found}: base and added tests are scored together; "
            f"give {_WANTED}"
        )
    kind, _, number = str(item["task_id"]).partition("/")
    try:
        return tuple(dumps(typed(int(number), row) if kind == "Mbpp" else row) for row in rows)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{where}: the {field} of {item['task_id']} has inputs of other types ({error}); give {_WANTED}"
        ) from error


def _tolerance(where: str, item: JsonObject) -> float:
    atol = item.get("atol") or 0
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not 0 <= atol < 1:
        raise UserError(f"{where}: the atol of {item['task_id']} is {atol!r}, not a number from 0 to 1; give {_WANTED}")
    return float(atol)


def _validity(where: str, name: str, contract: object, reference: ast.Module, entry: str) -> str | None:
    """Return the reference with its contract as the body of the entry point; None without a contract.

    The contract alone, because it may change arguments, and because recursion may break it.
    """
    if not isinstance(contract, str):
        raise UserError(f"{where}: the contract of {name} is not a string; give {_WANTED}")
    if not contract.strip():
        return None
    (condition,) = parse(where, name, "contract", f"if True:\n{contract}\n").body
    assert isinstance(condition, ast.If)
    body: Sequence[ast.stmt] = condition.body
    statements = [
        ast.FunctionDef(entry, node.args, list(body), [], None, lineno=node.lineno, col_offset=0)
        if isinstance(node, ast.FunctionDef) and node.name == entry
        else node
        for node in reference.body
    ]
    try:
        return ast.unparse(ast.fix_missing_locations(ast.Module(statements, [])))
    except RecursionError as error:
        raise UserError(f"{where}: the contract or canonical_solution of {name} is nested too deeply") from error


FORMAT = ProblemFormat(2, _claims, _read)
