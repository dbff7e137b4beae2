"""Read the fields of a request's body, which may hold anything. What is not read is refused, not ignored."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import msgspec

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.serving.errors import ApiError


def parse(content: bytes) -> Any:
    """Return the JSON of a body; ApiError if it is none."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ApiError(f"the body is not JSON: {str(error)[:200]}") from None


class Fields:
    """The fields of an object. Each getter takes a field; `refuse_rest` refuses those that were not taken."""

    def __init__(self, body: Any, where: str = "the body"):
        if not isinstance(body, dict):
            raise ApiError(f"{where} must be an object")
        self._left: JsonObject = {key: value for key, value in body.items() if value is not None}
        self._where = where

    def raw(self, name: str) -> Any:
        """Return a field of any type; None if it is missing or null."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self.raw(name)
        if value is not None and not isinstance(value, str):
            raise ApiError(f"{name} must be a string", param=name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            raise ApiError(f"{name} must be true or false", param=name)
        return default if value is None else value

    def integer(self, name: str, least: int, most: int) -> int | None:
        """Return an integer from `least` to `most`."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ApiError(f"{name} must be an integer from {least} to {most}", param=name)
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return a number from `least` to `most`."""
        value = self.raw(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not least <= value <= most:
            raise ApiError(f"{name} must be a number from {least:g} to {most:g}", param=name)
        return float(value)

    def inner(self, name: str) -> Fields:
        """Return the fields of an object; empty if it is missing."""
        value = self.raw(name)
        return Fields({} if value is None else value, name)

    def drop(self, names: Collection[str]) -> None:
        """Take fields that change no text."""
        for name in names:
            self._left.pop(name, None)

    def refuse_unless(self, name: str, neutral: Collection[Any]) -> None:
        """Refuse a field with a value that would change the text in a way that is not supported."""
        value = self.raw(name)
        if value is not None and not any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral
        ):
            raise ApiError(f"{name} is not supported here: leave it out", param=name)

    def refuse_rest(self) -> None:
        """Refuse fields that nothing has read: a field without effect would be a silent difference."""
        for name in self._left:
            raise ApiError(f"{self._where} has the unknown field {name[:60]!r}: leave it out", param=name[:60])
