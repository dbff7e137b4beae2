"""Converts plain Python values to JSON and back, so that only data crosses from a program to its grader.

Standard library only, since it also runs in the clean interpreter. Subclasses are sent as the plain type that they
extend, by that type's own methods. Everything else arrives as `Opaque`, which equals nothing.
"""

from __future__ import annotations

import builtins
import json
import re
import sys
from typing import Any

_PLAIN = (bool, int, float, str, type(None))
_BUILTIN_TYPES = {kind: name for name, kind in vars(builtins).items() if isinstance(kind, type)}
_ARRAY = re.compile(r"[<>|](b1|[iu][1248]|f[248]|c8|c16|U\d+)")  # NumPy's types whose items are plain Python values
_MOST_BITS = 4096  # longer integers are sent in hexadecimal, because Python limits decimal ones


class Opaque:
    """Placeholder for an object that is not plain data."""

    def __init__(self, kind: str):
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<a {self.kind}, not a plain value>"


def dumps(value: Any) -> str:
    """Return the value as JSON; objects that are not plain data become `Opaque` on the other side."""
    return json.dumps(_encode(value))


def canonical(value: Any) -> str:
    """Return the value as `dumps` does, with sets and the keys of dictionaries in sorted order.

    Equal values of the same types have equal texts. RecursionError if the value is nested too deeply.
    """
    return json.dumps(_sorted(_encode(value)))


def key(value: Any) -> str:
    """Return a text that is the same for all values that are equal to Python, such as 1, 1.0 and True.

    All NaN have one text, and so have all opaque objects of one type. RecursionError as for `canonical`.
    """
    return canonical(_reduced(value))


def loads(text: str) -> Any:
    """Return the value; ValueError, TypeError or RecursionError for text that `dumps` never writes."""
    return decode(json.loads(text))


def _encode(value: Any) -> Any:
    kind: type = type(value)
    if kind in _PLAIN:
        return {"i": hex(value)} if kind is int and value.bit_length() > _MOST_BITS else value
    if isinstance(value, list):
        items = [*list.__iter__(value)]
        return items if _are_scalars(items) else [_encode(item) for item in items]
    if isinstance(value, tuple):
        return {"t": [_encode(item) for item in tuple.__iter__(value)]}
    if isinstance(value, dict):
        return {"d": [[_encode(key), _encode(item)] for key, item in dict.items(value)]}
    if isinstance(value, set):
        return {"s": [_encode(item) for item in set.__iter__(value)]}
    if isinstance(value, frozenset):
        return {"f": [_encode(item) for item in frozenset.__iter__(value)]}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _encode(int.__index__(value))
    if isinstance(value, float):
        return float.__float__(value)
    if kind in (bytes, bytearray):
        return {"b": value.hex()}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is type and value in _BUILTIN_TYPES:
        return {"y": _BUILTIN_TYPES[value]}
    if kind is range:
        return {"r": [value.start, value.stop, value.step]}
    return _encode_numpy(value) or {"o": kind.__name__ if type(kind.__name__) is str else "object"}


def _are_scalars(items: list[Any]) -> bool:
    """Return whether JSON has all items as they are: long lists of numbers or texts need no look at each."""
    kinds = set(map(type, items))
    if not kinds.issubset(_PLAIN):
        return False
    return int not in kinds or all(type(item) is not int or item.bit_length() <= _MOST_BITS for item in items)


def _encode_numpy(value: Any) -> Any:
    """Return NumPy's array as its type, shape and items, and a scalar in a list; None for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray) or not _ARRAY.fullmatch(value.dtype.str):
        return None
    return {"n": [value.dtype.str, list(value.shape), _encode(value.ravel().tolist())]}


def _decode_numpy(kind: str, shape: list[int], items: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not _ARRAY.fullmatch(kind):
        raise ValueError(f"no array of the type {kind!r}")
    try:
        return numpy.array(decode(items), kind).reshape(shape)[()]  # a scalar, if it has no dimension
    except OverflowError as error:
        raise ValueError("an item does not fit into the array's type") from error


def _sorted(encoded: Any) -> Any:
    """Return an encoded value with the items of sets and dictionaries sorted by their texts."""
    if isinstance(encoded, list):
        is_nested = not set(map(type, encoded)).issubset(_PLAIN)
        return [_sorted(item) for item in encoded] if is_nested else encoded
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    content = _sorted(content)
    return {kind: sorted(content, key=json.dumps) if kind in ("s", "f", "d") else content}


def is_plain(value: Any) -> bool:
    """Return whether a decoded value holds no `Opaque` object."""
    if isinstance(value, dict):
        return all(is_plain(name) and is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return not isinstance(value, Opaque)


def _reduced(value: Any) -> Any:
    """Return a plain value with integers in place of numbers that equal one, and frozen sets in place of sets."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if isinstance(value, complex) and value.imag == 0:
        return _reduced(value.real)
    if isinstance(value, list) and set(map(type, value)) <= {int, str}:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        items = map(_reduced, value)
        return list(items) if isinstance(value, list) else (tuple if isinstance(value, tuple) else frozenset)(items)
    if isinstance(value, dict):
        return {_reduced(name): _reduced(item) for name, item in value.items()}
    return value


def decode(value: Any) -> Any:
    """Return the value of parsed JSON; ValueError or TypeError as for `loads`."""
    if isinstance(value, list):
        return value if set(map(type, value)).issubset(_PLAIN) else [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "i":
            return int(content, 16)
        case "t":
            return tuple(decode(content))
        case "d":
            return {decode(key): decode(item) for key, item in content}
        case "s":
            return set(decode(content))
        case "f":
            return frozenset(decode(content))
        case "b":
            return bytes.fromhex(content)
        case "c":
            return complex(*content)
        case "r":
            return range(*content)
        case "y" if content in _BUILTIN_TYPES.values():
            return getattr(builtins, content)
        case "n":
            return _decode_numpy(*content)
        case "o":
            return Opaque(str(content))
    raise ValueError(f"unknown kind of value {kind!r}")
