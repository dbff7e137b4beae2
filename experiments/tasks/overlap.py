"""Which test items stand in a text that a model has seen, in training or for calibration? By hashes of 13 words.

Thirteen words in a row are what Brown et al. 2020 (arXiv 2005.14165, appendix C) count as contamination. Words are
lower-cased and punctuation is dropped. An item of fewer words is seen where all of it is a sentence of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WORDS = 13
TRAINING_SHARES = Path(__file__).parents[1] / "bundled" / "training_overlap.json"  # of the bundled model
_FEWEST = 4  # words, below which a sentence is no one's
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.?!:]\s|\n")
Item = tuple[str, ...]  # the texts of one test item, such as a passage and a question


@dataclass
class Seen:
    """Hashes of a text's runs of words and of its sentences; they hold within this process only."""

    runs: set[int] = field(default_factory=set)
    sentences: set[int] = field(default_factory=set)

    def add(self, text: str, among: Seen | None = None) -> None:
        """Take in a text, or of it what is also `among` another's."""
        runs, sentences = _runs(words(text)), set(map(hash, _sentences(text)))
        self.runs |= runs if among is None else runs & among.runs
        self.sentences |= sentences if among is None else sentences & among.sentences

    def holds(self, item: Item) -> bool:
        texts = [words(text) for text in item]
        if all(len(text) < WORDS for text in texts):
            return any(hash(text) in self.sentences for text in texts if len(text) >= _FEWEST)
        return any(not self.runs.isdisjoint(_runs(text)) for text in texts)


def training_shares(digest: str) -> dict[str, float]:
    """Return the share of each bundled benchmark's items that the training text holds; empty for any other model."""
    kept = json.loads(TRAINING_SHARES.read_text(encoding="utf-8"))
    return dict(kept["shares"]) if kept["model_digest"] == digest else {}


def words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def seen_of(texts: Iterable[str]) -> Seen:
    seen = Seen()
    for text in texts:
        seen.add(text)
    return seen


def asked_of(items: Iterable[Item]) -> Seen:
    """Return the hashes by which any of the items would be found: all that must be looked for in a long text."""
    asked = Seen()
    for item in items:
        for text in map(words, item):
            asked.runs |= _runs(text)
            asked.sentences |= {hash(text)} if len(text) < WORDS else set()
    return asked


def share(items: Sequence[Item], seen: Seen) -> float | None:
    """Return the share of the items that the text holds; None without items."""
    return sum(map(seen.holds, items)) / len(items) if items else None


def paragraphs(text: str) -> list[Item]:
    """Return a text's paragraphs, between empty lines, as items."""
    return [(part,) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _runs(text: tuple[str, ...]) -> set[int]:
    return set(map(hash, zip(*(text[start:] for start in range(WORDS)), strict=False)))


def _sentences(text: str) -> Iterator[tuple[str, ...]]:
    return map(words, _SENTENCE.split(text))
