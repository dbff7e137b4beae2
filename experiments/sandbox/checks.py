"""Takes a test apart, so that the verdict falls outside the program's process wherever the test allows it.

`call`: runs in the grader, in which the tested function is a stub that asks the program for a plain value.
`value`: the program evaluates one side of a comparison, the grader holds the literal of the other.
`inside`: everything else runs in the program, which could then forge it; such checks are counted.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Check:
    kind: str  # call, value, inside
    code: str
    expected: str = ""  # of `value`: a literal
    setup: str = ""  # of `call`: what the grader runs before

    def plain(self) -> dict[str, str]:
        return dict(vars(self))


@lru_cache(maxsize=4096)
def plan_checks(test: str, entry_point: str, calls_check: bool, helpers: str = "") -> tuple[Check, ...]:
    """Return the checks in the order of the test. SyntaxError when it is not Python.

    `helpers` is code of the problem, not of the program, that the test needs: the grader runs it itself.
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
    """Say whether the program itself decides: whether an assertion, not a preparation, runs in it."""
    return any(
        check.kind == "inside" and any(isinstance(node, ast.Assert) for node in ast.walk(_tree(check.code)))
        for check in checks
    )


def _tree(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' code: invalid escape sequences and the like
        return ast.parse(code)


def _free(statement: ast.Assert) -> set[str]:
    """Return the names that come from outside the statement; builtins are none."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound - set(dir(builtins))


def _compared(statement: ast.stmt) -> Check | None:
    """Return `assert EXPRESSION == literal` taken apart; an expression alone must be true."""
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
