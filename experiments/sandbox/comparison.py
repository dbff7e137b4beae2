"""Whether an output is right: equality, tolerance, and the oracles of problems with several right answers.

Runs in the grader, in the clean interpreter: standard library only. The rules are those of EvalPlus (Liu et al. 2023,
arXiv 2305.01210), except that the tolerance of one input never extends to the next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import values

_LONGEST = 1 << 16  # longer texts of outputs are replaced by digests, so that a suite of them stays small
_FLOAT_TOLERANCE = 1e-6  # absolute, for floats of problems without a tolerance of their own
_RELATIVE_TOLERANCE = 1e-7  # beside the absolute one, as in numpy.testing.assert_allclose


def kept(value: Any, size: int) -> tuple[str, str]:
    """Return ("value", canonical text), or ("digest", SHA-256 of the value's key) if its text is too long.

    `size` is the length of any text of the value, which tells long ones without making another.
    """
    return ("digest", _digest(value)) if size > _LONGEST else ("value", values.canonical(value))


def is_right(oracle: str, value: Any, expected: Sequence[str], arguments: Sequence[Any], atol: float) -> bool:
    """Return whether a value is right. `expected` is what `kept` returned; a value that cannot be compared is wrong."""
    kind, text = expected
    try:
        if kind == "digest":
            return _digest(value) == text
        return _ORACLES[oracle](value, values.loads(text), arguments, atol)
    except Exception:
        return False


def _digest(value: Any) -> str:
    return hashlib.sha256(values.key(value).encode()).hexdigest()


def _equal(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    if value == expected:
        return True
    if atol == 0 and _is_float(expected):
        atol = _FLOAT_TOLERANCE
    return atol != 0 and type(value) is type(expected) and bool(_is_close(value, expected, atol))


def _is_float(value: Any) -> bool:
    """Return whether the value is a float, or a list or tuple of floats."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _is_close(value: Any, expected: Any, atol: float) -> Any:
    if isinstance(expected, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(expected):
            return False
        return all(_is_close(one, other, atol) for one, other in zip(value, expected, strict=True))
    if value == expected:
        return True
    return math.isfinite(abs(expected)) and abs(value - expected) <= atol + _RELATIVE_TOLERANCE * abs(expected)


# Oracles: (value, expected value, arguments, absolute tolerance) to whether the value is right


def _root(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    """Any root of the polynomial with the given coefficients, lowest power first."""
    (coefficients,) = arguments
    return bool(abs(sum(factor * math.pow(value, power) for power, factor in enumerate(coefficients))) <= atol)


def _same_set(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    return set(value) == set(expected)


def _not_none(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    """A match or none; the reference returns objects that are not plain data."""
    if isinstance(value, bool):
        return value == (expected is not None)
    return (value is not None) == (expected is not None)


def _anything(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    return True


def _or_zero(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    return value == 0 or _equal(value, expected, arguments, atol)


def _surface_of_pyramid(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    """The height may also be that of the pyramid instead of that of its sides."""
    base, height = arguments
    surface = round(base**2 + 2 * base * math.hypot(base / 2, height))
    return _equal(value, expected, arguments, atol) or abs(value - surface) <= atol


def _digit_distance(value: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    """The shorter number may also be filled with zeros on its left."""
    one, other = map(str, arguments)
    size = max(len(one), len(other))
    distance = sum(abs(int(a) - int(b)) for a, b in zip(one.zfill(size), other.zfill(size), strict=True))
    return value == distance or _equal(value, expected, arguments, atol)


_ORACLES: dict[str, Callable[[Any, Any, Sequence[Any], float], bool]] = {
    "equal": _equal,
    "root": _root,
    "same_set": _same_set,
    "not_none": _not_none,
    "anything": _anything,
    "or_zero": _or_zero,
    "surface_of_pyramid": _surface_of_pyramid,
    "digit_distance": _digit_distance,
}
