"""An article with its reference summaries."""

from __future__ import annotations

from dataclasses import dataclass

WANTED = "JSON lines with a text and one or several summaries"


@dataclass(frozen=True)
class Article:
    """An article with one or several reference summaries."""

    id: str
    text: str
    references: tuple[str, ...]
