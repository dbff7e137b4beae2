"""Seeded damage of programs: one operator, constant or condition is another one. Some damage changes nothing."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def damaged(code: str, seed: str) -> str | None:
    """Return the code with one random change; None if it is not Python or has nothing to change."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    changes = [change for node in ast.walk(tree) for change in _changes(node)]
    if not changes:
        return None
    random.Random(seed).choice(changes)()
    return ast.unparse(tree)


def _changes(node: ast.AST) -> list[Callable[[], None]]:
    """Return the changes that can be made to a node."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _OPERATORS:
        return [lambda: setattr(node, "op", _OPERATORS[type(node.op)]())]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _OPERATORS:
        return [lambda: setattr(node, "ops", [_OPERATORS[type(node.ops[0])](), *node.ops[1:]])]
    if isinstance(node, ast.Constant) and isinstance(value := node.value, int):
        return [lambda: setattr(node, "value", not value if isinstance(value, bool) else value + 1)]
    if isinstance(node, ast.Return) and node.value is not None:
        return [lambda: setattr(node, "value", ast.Constant(None))]
    return []
