"""Strict making of frozen dataclasses from plain mappings.

Hydra's own checks let `+typo=1`, negative sizes and wrong elements of lists through; these do not.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.renamed import new_option

Keys = Sequence[str] | Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Rule:
    """What a field may hold, and what it is for. None: no such rule."""

    least: float | None = None
    most: float | None = None
    keys: Keys | None = None  # of a mapping; a callable is called whenever a value is checked
    among: Sequence[str] | None = None
    may_be_empty: bool = False
    identity: bool = True  # whether another value can change a figure

    @classmethod
    def of(cls, part: Field[Any]) -> Rule:
        rule = part.metadata.get("rule", _NO_RULE)
        assert isinstance(rule, Rule)
        return rule

    def field(self, **kwargs: Any) -> Any:
        return field(metadata={"rule": self}, **kwargs)


_NO_RULE = Rule()


def least(
    smallest: float,
    most: float | None = None,
    keys: Keys | None = None,
    identity: bool = True,
    **kwargs: Any,
) -> Any:
    """Return a field whose value, or each element of it, lies between; `keys` are the known ones of a mapping.

    `identity`: whether another value can change a figure, see `outside_identity`.
    """
    return Rule(least=smallest, most=most, keys=keys, identity=identity).field(**kwargs)


def among(*words: str, may_be_empty: bool = False, identity: bool = True, **kwargs: Any) -> Any:
    return Rule(among=words, may_be_empty=may_be_empty, identity=identity).field(**kwargs)


def outside_identity(**kwargs: Any) -> Any:
    """Return a field that says where or how a cell is run, and changes no figure: it tells no two cells apart."""
    return Rule(identity=False).field(**kwargs)


def identity_of(kind: Any, value: JsonObject) -> JsonObject:
    """Return the part of a plain configuration that decides its figures. Keys that `kind` does not know stay."""
    if hasattr(kind, "identity_plain"):
        plain: JsonObject = kind.identity_plain(value)
        return plain
    hints, parts = typing.get_type_hints(kind), {part.name: part for part in fields(kind)}
    found = {}
    for key, element in value.items():
        if key in parts and not Rule.of(parts[key]).identity:
            continue
        inner = next((one for one in (hints.get(key), *typing.get_args(hints.get(key))) if is_dataclass(one)), None)
        found[key] = identity_of(inner, element) if inner is not None and isinstance(element, dict) else element
    return found


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value` as the type `kind`. UserError names the key that is unknown, missing, mistyped or out of range.

    A kind whose keys depend on what is installed has `build_plain(value, where)`, which is called instead.
    """
    if hasattr(kind, "build_plain"):
        return kind.build_plain(value, where)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else build(inner[0], value, where)
    if origin is tuple:
        elements = value if isinstance(value, list) else [value]
        return tuple(build(inner[0], element, where) for element in elements)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        if inner[1] is Any:
            return dict(value)
        return {str(key): build(inner[1], element, f"{where}.{key}") for key, element in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} must be of the type {kind.__name__}; found {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{where} must be a number; found {value}")
    return value


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Return the line for a key that nobody knows: what it is called today, or what may have been meant."""
    today = new_option(name)
    if today is not None:
        return f"{name} is called {today} today"
    return f"{name} is not a known key{did_you_mean(name.rpartition('.')[2], known)}"


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{where or 'the configuration'} must be a mapping; found {value!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            raise UserError(unknown_key(f"{prefix}{key}", hints))
    made = {}
    for part in fields(kind):
        if part.name in value:
            made[part.name] = build(hints[part.name], value[part.name], prefix + part.name)
            _check_range(made[part.name], Rule.of(part), prefix + part.name)
        elif part.default is MISSING and part.default_factory is MISSING:
            raise UserError(f"{prefix}{part.name} is missing: set {prefix}{part.name}=…")
    return kind(**made)


def _check_range(value: Any, rule: Rule, where: str) -> None:
    if value == () and not rule.may_be_empty:
        raise UserError(f"{where} is an empty list: give at least one value")
    if isinstance(value, dict):
        parts = [(f"{where}.{key}", element) for key, element in value.items()]
        known = rule.keys() if callable(rule.keys) else rule.keys
        for key in value:
            if known is not None and key not in known:
                raise UserError(f"{where}.{key} is not a known key{did_you_mean(key, known)}")
    else:
        parts = [(where, element) for element in (value if isinstance(value, tuple) else [value])]
    for name, element in parts:
        if element is None:
            continue
        if rule.least is not None and element < rule.least:
            raise UserError(f"{name} must be at least {rule.least}; found {element}")
        if rule.most is not None and element > rule.most:
            raise UserError(f"{name} must be at most {rule.most}; found {element}")
        if rule.among is not None and element not in rule.among:
            raise UserError(f"{name}={element} is unknown{did_you_mean(str(element), rule.among)}")
