"""Splits a test into checks, so that verdicts are made outside the program's process wherever the test allows it.

`call`: runs in the grader, where the tested function is a stub that requests a plain value from the program.
`value`: the program evaluates one side of a comparison; the grader has the literal of the other side.
`inside`: everything else runs in the program, which could forge the result; such checks are counted.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Check:
    """A part of a test."""

    kind: str  # "call", "value" or "inside"
    code: str
    expected: str = ""  # for `value`: a literal
    setup: str = ""  # for `call`: code that the grader runs before

    def plain(self) -> dict[str, str]:
        """Return the fields as a dictionary, for JSON."""
        return dict(vars(self))


@lru_cache(maxsize=4096)
def plan_checks(test: str, entry_point: str, calls_check: bool, helpers: str = "") -> tuple[Check, ...]:
    """Return the checks in the order of the test; SyntaxError if it is not Python.

    `helpers` is code of the problem (not of the program) that the test needs. The grader runs it itself.
    """
    if calls_check:
        return (Check("call", f"check({entry_point})", setup=f"{helpers}\n{test}"),)
    checks: list[Check] = []
    imports: list[str] = []
    imported: set[str] = set()
    for statement in _tree(test).body:
        code = ast.unparse(statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.append(code)
            imported |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
            checks.append(Check("inside", code))
        elif isinstance(statement, ast.Assert) and _free(statement) <= imported | {entry_point}:
            checks.append(Check("call", code, setup="\n".join(imports)))
        else:
            checks.append(_compared(statement) or Check("inside", code))
    return tuple(checks)


def verdict_is_inside(checks: tuple[Check, ...]) -> bool:
    """Return whether an assertion runs inside the program, so that the program itself decides."""
    return any(
        check.kind == "inside" and any(isinstance(node, ast.Assert) for node in ast.walk(_tree(check.code)))
        for check in checks
    )


def _tree(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        return ast.parse(code)


def _free(statement: ast.Assert) -> set[str]:
    """Return the free names of the statement, without builtins."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound - set(dir(builtins))


def _compared(statement: ast.stmt) -> Check | None:
    """Return the check of `assert EXPRESSION == literal`; None for any other statement."""
    if not isinstance(statement, ast.Assert):
        return None
    test = statement.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        left, right = test.left, test.comparators[0]
        if _is_literal(right):
            return Check("value", ast.unparse(left), ast.unparse(right))
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
