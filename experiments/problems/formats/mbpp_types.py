"""The types of MBPP+'s inputs, which JSON cannot hold: tuples, sets and complex numbers, by problem.

Source: the loader of EvalPlus 0.3 (evalplus/data/mbpp.py). Problems that are not listed take what JSON gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject

_Rule = Callable[[Any, int], Any]  # (argument, its position) to the argument with its type


def typed(number: int, arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments of an input of Mbpp/NUMBER with their types; TypeError or ValueError for other data."""
    rule = _RULES.get(number)
    return list(arguments) if rule is None else [rule(value, position) for position, value in enumerate(arguments)]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _items(value: Any) -> Any:
    return [_tuple(item) for item in value] if isinstance(value, list) else value


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _first(change: Callable[[Any], Any]) -> _Rule:
    return lambda value, position: change(value) if position == 0 else value


def _second(value: Any, position: int) -> Any:
    return _tuple(value) if position == 1 else value


def _every(change: Callable[[Any], Any]) -> _Rule:
    return lambda value, position: change(value)


def _sets(value: Any) -> list[Any]:
    return [set(item) if isinstance(item, list) and item else {} for item in value]


def _tuples_of_values(value: JsonObject) -> JsonObject:
    return {name: tuple(items) for name, items in value.items()}


def _polar(value: Any, position: int) -> float | complex:
    return float(value) if position == 0 else complex(value)


_BY_RULE: Sequence[tuple[_Rule, str]] = (
    (_every(_tuple), "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809"),
    (_every(_items), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
    (_every(lambda value: _tuple(_items(value))), "259 278 401 445"),
    (_every(_deep), "580 615 791"),
    (_first(_items), "75 413 444 753"),
    (_first(_tuple), "250 307 405 446 617 720 763 808"),
    (_second, "106 750"),
    (_first(_sets), "115"),
    (_polar, "124"),
    (_first(complex), "252"),
    (_first(_tuples_of_values), "722"),
)
_RULES = {int(number): rule for rule, numbers in _BY_RULE for number in numbers.split()}
