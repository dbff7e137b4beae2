"""Mutants of a program: small changes that a good test should notice. Makes them; does not run them.

The operators are those of mutation testing for Python (DeMillo et al. 1978; mutmut; MuTAP): swapped arithmetic,
comparison and boolean operators, constants and indices off by one, negated conditions, dropped statements.
"""

from __future__ import annotations

import ast
import copy
import difflib
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_COMPARISON: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_SIMPLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return, ast.Break, ast.Continue)
_Change = Callable[[ast.AST], None]  # of a node, in place


@dataclass(frozen=True)
class Mutant:
    """A changed program."""

    kind: str  # of the change: arithmetic, comparison, boolean, constant, index, condition or statement
    code: str
    diff: str  # its changed lines, against the program as Python writes it


def mutants(program: str, head: str, count: int, seed: str) -> list[Mutant]:
    """Return up to `count` mutants in the order of the program, drawn by `seed`; SyntaxError if it is not Python.

    Lines of `head`, with which the program begins, are not changed, and no two mutants are alike. A program that is
    nested too deeply to be copied has none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data's code may have invalid escape sequences
        tree = ast.parse(program)
    try:
        return _drawn(tree, head, count, seed)
    except RecursionError:
        return []


def _drawn(tree: ast.Module, head: str, count: int, seed: str) -> list[Mutant]:
    original, sites = ast.unparse(tree), list(_sites(tree, head.count("\n")))
    known, made = {original}, list[tuple[int, Mutant]]()
    for position in random.Random(seed).sample(range(len(sites)), len(sites)):
        if len(made) == count:
            break
        index, kind, change = sites[position]
        code = _changed(tree, index, change)
        if code not in known:
            known.add(code)
            made.append((position, Mutant(kind, code, _diff(original, code))))
    return [mutant for _, mutant in sorted(made, key=lambda one: one[0])]


def _sites(tree: ast.Module, after: int) -> Iterator[tuple[int, str, _Change]]:
    """Yield (index of a node in `ast.walk`, kind, change) for each change below a line; annotations do nothing."""
    annotations = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.AnnAssign | ast.arg)]
    annotations += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    left_out = {id(node) for annotation in annotations if annotation is not None for node in ast.walk(annotation)}
    for index, node in enumerate(ast.walk(tree)):
        located = node.target if isinstance(node, ast.comprehension) else node
        if getattr(located, "lineno", 0) > after and id(node) not in left_out:
            for kind, change in _changes(node):
                yield index, kind, change
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            for position, statement in enumerate(statements if isinstance(statements, list) else []):
                if isinstance(statement, _SIMPLE) and statement.lineno > after and not _is_text(statement):
                    yield index, "statement", _set_item(name, position, ast.Pass())


def _changed(tree: ast.Module, index: int, change: _Change) -> str:
    copied = copy.deepcopy(tree)
    change(list(ast.walk(copied))[index])
    return ast.unparse(ast.fix_missing_locations(copied))


def _diff(original: str, code: str) -> str:
    lines = difflib.unified_diff(original.splitlines(), code.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    """Yield the changes of a node, except that its statements are dropped."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _ARITHMETIC:
        yield "arithmetic", _set("op", _ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            for other in _COMPARISON[type(operator)]:
                yield "comparison", _set_item("ops", position, other())
    elif isinstance(node, ast.BoolOp):
        yield "boolean", _set("op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "boolean", _wrap("operand", _negated)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.Subscript | ast.Slice | ast.Call):
        yield from _of_index(node)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", _wrap("test", _negated)
    elif isinstance(node, ast.comprehension):
        for position in range(len(node.ifs)):
            yield "condition", _wrap_item("ifs", position, _negated)


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, _Change]]:
    if isinstance(node.value, bool):
        yield "constant", _set("value", not node.value)
    elif isinstance(node.value, int | float):
        for step in (1, -1):
            yield "constant", _set("value", node.value + step)


def _of_index(node: ast.Subscript | ast.Slice | ast.Call) -> Iterator[tuple[str, _Change]]:
    """Move indices, ends of slices and arguments of `range` by one; numbers are constants already."""
    for step in (1, -1):
        if isinstance(node, ast.Subscript) and _is_moved(node.slice):
            yield "index", _wrap("slice", _moved(step))
        elif isinstance(node, ast.Slice):
            for name in ("lower", "upper"):
                if _is_moved(getattr(node, name)):
                    yield "index", _wrap(name, _moved(step))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            for position, argument in enumerate(node.args[:2]):
                if _is_moved(argument):
                    yield "index", _wrap_item("args", position, _moved(step))


def _is_moved(expression: ast.expr | None) -> bool:
    number = expression.operand if isinstance(expression, ast.UnaryOp) else expression
    return number is not None and not isinstance(number, ast.Constant | ast.Slice | ast.Tuple)


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is a docstring or an ellipsis, which does nothing."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _negated(expression: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), expression)


def _moved(step: int) -> Callable[[ast.expr], ast.expr]:
    return lambda expression: ast.BinOp(expression, ast.Add() if step > 0 else ast.Sub(), ast.Constant(1))


def _set(name: str, value: object) -> _Change:
    return lambda node: setattr(node, name, value)


def _set_item(name: str, position: int, value: object) -> _Change:
    def change(node: ast.AST) -> None:
        getattr(node, name)[position] = value

    return change


def _wrap(name: str, make: Callable[[ast.expr], ast.expr]) -> _Change:
    return lambda node: setattr(node, name, make(getattr(node, name)))


def _wrap_item(name: str, position: int, make: Callable[[ast.expr], ast.expr]) -> _Change:
    def change(node: ast.AST) -> None:
        items = getattr(node, name)
        items[position] = make(items[position])

    return change
