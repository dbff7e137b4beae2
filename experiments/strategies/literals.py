"""Python literals within prose: where one ends, and what it says. Nothing is executed."""

from __future__ import annotations

import ast
import re
import warnings

_OPEN, _CLOSE = "([{", ")]}"
_WORD = re.compile(r"-?(?:\d[\d_]*\.?\d*(?:e-?\d+)?|\.\d+|True|False|None|true|false|none|null)\b", re.ASCII)
_WORDS = {"true": "True", "false": "False", "none": "None", "null": "None"}


def literal_at(text: str, at: int, is_call: bool = False) -> int | None:
    """Return where the literal (or the brackets of a call) at this position ends; None if none starts there."""
    if at >= len(text):
        return None
    if text[at] in _OPEN:
        return _end_of_brackets(text, at)
    if is_call:
        return None
    if text[at] in "\"'":
        return _end_of_string(text, at)
    word = _WORD.match(text, at)
    return word.end() if word else None


def value_of(source: str) -> str | None:
    """Return the literal as Python writes it; None for other text, and for `(1)`, which prose may mean as a tuple."""
    stripped = source.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # prose may have invalid escape sequences
            value: object = ast.literal_eval(_WORDS.get(stripped, stripped))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if stripped.startswith("(") and not isinstance(value, tuple):
        return None
    return repr(value)


def _end_of_brackets(text: str, at: int) -> int | None:
    """Return where the brackets close; strings within are skipped. None if they do not, or do not match."""
    waiting: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter in "\"'":
            end = _end_of_string(text, at)
            if end is None:
                return None
            at = end
            continue
        if letter in _OPEN:
            waiting.append(_CLOSE[_OPEN.index(letter)])
        elif letter in _CLOSE:
            if not waiting or waiting.pop() != letter:
                return None
            if not waiting:
                return at + 1
        at += 1
    return None


def _end_of_string(text: str, at: int) -> int | None:
    quote, at = text[at], at + 1
    while at < len(text) and text[at] != "\n":
        if text[at] == quote:
            return at + 1
        at += 2 if text[at] == "\\" else 1
    return None
