"""Build frozen dataclasses from plain mappings, strictly.

Hydra's own checks accept `+typo=1`, negative sizes and list elements of the wrong type; these reject them.
"""

from __future__ import annotations

import functools
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
    """The valid values of a field, and whether it belongs to the cell's identity. None: no such rule."""

    least: float | None = None
    most: float | None = None
    keys: Keys | None = None  # valid keys of a mapping; a callable is evaluated at each check
    among: Sequence[str] | None = None
    may_be_empty: bool = False
    identity: bool = True  # whether another value can change a figure

    @classmethod
    def of(cls, part: Field[Any]) -> Rule:
        """Return the rule of a dataclass field; one that accepts any value if the field has none."""
        rule = part.metadata.get("rule", _NO_RULE)
        assert isinstance(rule, Rule)
        return rule

    def field(self, **kwargs: Any) -> Any:
        """Return a dataclass field with this rule; `kwargs` are those of `dataclasses.field`."""
        return field(metadata={"rule": self}, **kwargs)


_NO_RULE = Rule()


def least(
    smallest: float,
    most: float | None = None,
    keys: Keys | None = None,
    identity: bool = True,
    may_be_empty: bool = False,
    **kwargs: Any,
) -> Any:
    """Return a field whose value, or each element of it, is from `smallest` to `most`.

    `keys`: the valid keys of a mapping. `identity`: see `outside_identity`.
    """
    return Rule(least=smallest, most=most, keys=keys, may_be_empty=may_be_empty, identity=identity).field(**kwargs)


def among(*words: str, may_be_empty: bool = False, identity: bool = True, **kwargs: Any) -> Any:
    """Return a field whose value, or each element of it, is one of `words`. `identity`: see `outside_identity`."""
    return Rule(among=words, may_be_empty=may_be_empty, identity=identity).field(**kwargs)


def outside_identity(**kwargs: Any) -> Any:
    """Return a field that changes no figure, such as a path: cells that differ only in it are the same cell."""
    return Rule(identity=False).field(**kwargs)


def identity_of(kind: Any, value: JsonObject) -> JsonObject:
    """Return the part of a plain configuration that affects figures. Keys that are not fields of `kind` stay."""
    if hasattr(kind, "identity_plain"):
        plain: JsonObject = kind.identity_plain(value)
        return plain
    hints, parts = _hints(kind), {part.name: part for part in fields(kind)}
    identity = {}
    for key, element in value.items():
        if key in parts and not Rule.of(parts[key]).identity:
            continue
        hint = hints.get(key)
        inner = next((part for part in (hint, *typing.get_args(hint)) if is_dataclass(part)), None)
        identity[key] = identity_of(inner, element) if inner is not None and isinstance(element, dict) else element
    return identity


@functools.cache  # a report asks for each record
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value` as the type `kind`; UserError for a key that is unknown, missing, mistyped or out of range.

    `where` is the key of `value` in the configuration. A kind whose keys depend on the installation has a method
    `build_plain(value, where)`, which is called instead.
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
    """Return the error message for an unknown key: its current name if it was renamed, else a similar key."""
    current = new_option(name)
    if current is not None:
        return f"{name} was renamed to {current}"
    return f"{name} is not a known key{did_you_mean(name.rpartition('.')[2], known)}"


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{where or 'the configuration'} must be a mapping; found {value!r}")
    hints = _hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            raise UserError(unknown_key(f"{prefix}{key}", hints))
    arguments = {}
    for part in fields(kind):
        if part.name in value:
            arguments[part.name] = build(hints[part.name], value[part.name], prefix + part.name)
            _check_range(arguments[part.name], Rule.of(part), prefix + part.name)
        elif part.default is MISSING and part.default_factory is MISSING:
            raise UserError(f"{prefix}{part.name} is missing: set {prefix}{part.name}=…")
    return kind(**arguments)


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
