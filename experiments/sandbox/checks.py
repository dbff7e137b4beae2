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
def plan_checks(
    test: str, entry_point: str, calls_check: bool, helpers: str = "", split: bool = False
) -> tuple[Check, ...]:
    """Return the checks in the order of the test; SyntaxError if it is not Python.

    `helpers` is code of the problem (not of the program) that the test needs. The grader runs it itself.
    `split`: each assertion of `check` is a check of its own, where that keeps its meaning.
    """
    if calls_check:
        setup = f"{helpers}\n{test}"
        parts = _assertions(_tree(setup), entry_point) if split else ()
        return tuple(Check("call", code, setup=setup) for code in parts or (f"check({entry_point})",))
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


def _assertions(setup: ast.Module, entry_point: str) -> list[str]:
    """Return the code of each assertion of `check`, preceded by the statements before it; empty if it has to run whole.

    That is so unless `check` is a straight line of assertions, assignments and imports whose names are its own.
    """
    definitions = [node for node in setup.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(definitions) != 1 or len(definitions[0].args.args) != 1:
        return []
    (check,) = definitions
    straight = (ast.Assert, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Import, ast.ImportFrom, ast.Pass)
    if not all(isinstance(statement, straight) for statement in check.body):
        return []
    candidate = check.args.args[0].arg
    if _bound(check.body) & (_bound(setup.body) | {entry_point, candidate}) or candidate in _bound(setup.body):
        return []  # in `check` they would hide the others, outside of it they would replace them
    parts, before = [], [f"{candidate} = {entry_point}"]
    for statement in check.body:
        before.append(ast.unparse(statement))
        if isinstance(statement, ast.Assert):
            parts.append("\n".join(before))
            before = []
    return parts if not before or not parts else [*parts[:-1], "\n".join([parts[-1], *before])]


def _bound(statements: list[ast.stmt]) -> set[str]:
    """Return the names that the statements bind in their own scope, and those of comprehensions."""
    names: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        else:
            nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            names |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return names


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
