"""A passage whose last word is predicted."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError

WANTED = "LAMBADA's JSON lines with `text`, or a text file with one passage per line"


@dataclass(frozen=True)
class Passage:
    """A passage in two parts: `context` and " " and `word`."""

    id: str
    context: str
    word: str


def passage(name: str, text: str, where: str) -> Passage:
    """Return a text divided at its last space; UserError for one of fewer than two words."""
    context, space, word = text.strip().rpartition(" ")
    if not space or not context.strip():
        raise UserError(f"{where}: a passage must have at least two words; found {text.strip()[:60]!r}")
    return Passage(name, context, word)
