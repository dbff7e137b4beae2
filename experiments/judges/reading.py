"""Reads what a judge replied: a score or a winner, as JSON or as a word. Whatever is not exactly that is no verdict."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.judges.judge import AskingConfig, Failure

Winner = Literal["A", "B", "tie"]
_WINNERS: Mapping[str, Winner] = {"a": "A", "b": "B", "tie": "tie"}
_FIRST_WORD = re.compile(r"\W*(\w+)")
_SHOWN = 60  # characters of a reply


class Unreadable(Exception):
    """A reply without a verdict. The message is one line."""

    def __init__(self, failure: Failure, reason: str):
        super().__init__(reason)
        self.failure: Failure = failure


def read_score(text: str, config: AskingConfig) -> float:
    """Return the score of a reply, 0 to 1. Unreadable if it has none, several, or one out of the range."""
    value = _of_words(text, config.words) if config.words else _field(text, "score")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unreadable("unparsable", f"the score is no number: {_shown(str(value))}")
    if not config.lowest <= value <= config.highest:
        raise Unreadable("out of range", f"the score {value:g} is not from {config.lowest:g} to {config.highest:g}")
    return (value - config.lowest) / (config.highest - config.lowest)


def says_right(score: float, config: AskingConfig) -> bool:
    """Return whether a score from 0 to 1 says that the answer is right."""
    return score >= (config.right_from - config.lowest) / (config.highest - config.lowest)


def read_winner(text: str, config: AskingConfig) -> Winner:
    """Return the better answer. Unreadable if the reply names none, or several."""
    value = _first_word(text) if config.words else _field(text, "winner")
    winner = _WINNERS.get(value.strip().lower()) if isinstance(value, str) else None
    if winner is None:
        raise Unreadable("unparsable", f'the winner is neither "A", "B" nor "tie": {_shown(str(value))}')
    return winner


def _of_words(text: str, words: Mapping[str, float]) -> float:
    """Return the score of the reply's first word."""
    word = _first_word(text).lower()
    for known, score in words.items():
        if word == known.lower():
            return score
    raise Unreadable("unparsable", f"the reply begins with none of {', '.join(words)}: {_shown(text)}")


def _first_word(text: str) -> str:
    found = _FIRST_WORD.match(text)
    return found[1] if found else ""


def _field(text: str, name: str) -> Any:
    """Return the field of the JSON objects of a reply, which may stand within other text; all must agree."""
    values = [value[name] for value in _objects(text) if name in value]
    if not values:
        raise Unreadable("unparsable", f'the reply has no JSON with "{name}": {_shown(text)}')
    if any(value != values[0] or type(value) is not type(values[0]) for value in values[1:]):
        raise Unreadable("unparsable", f'the reply has several "{name}": {_shown(text)}')
    return values[0]


def _objects(text: str) -> list[JsonObject]:
    decoder, found, start = json.JSONDecoder(), [], text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append(value)
        start = text.find("{", end)
    return found


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
