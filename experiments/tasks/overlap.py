"""Overlap of test items with a text that a model has seen in training or calibration, by hashes of 13-word runs.

A shared run of 13 words counts as contamination (Brown et al. 2020, arXiv 2005.14165, appendix C). Words are
lower-cased and punctuation is dropped. A shorter item counts as seen if it is a whole sentence of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime_matrix.experiments.tasks.task import Texts

WORDS = 13
TRAINING_SHARES = Path(__file__).parents[1] / "bundled" / "training_overlap.json"  # of the bundled model
_FEWEST = 4  # words; shorter sentences are too common to count
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.?!:]\s|\n")


@dataclass
class Seen:
    """Hashes of a text's runs of words and of its sentences. Valid within this process only."""

    runs: set[int] = field(default_factory=set)
    sentences: set[int] = field(default_factory=set)

    def add(self, text: str, among: Seen | None = None) -> None:
        """Add a text; with `among`, add only the hashes that are in `among` too."""
        runs, sentences = _runs(words(text)), set(map(hash, _sentences(text)))
        self.runs |= runs if among is None else runs & among.runs
        self.sentences |= sentences if among is None else sentences & among.sentences

    def holds(self, item: Texts) -> bool:
        """Return whether any text of the item was seen."""
        texts = [words(text) for text in item]
        if all(len(text) < WORDS for text in texts):
            return any(hash(text) in self.sentences for text in texts if len(text) >= _FEWEST)
        return any(not self.runs.isdisjoint(_runs(text)) for text in texts)


def training_shares(digest: str) -> dict[str, float]:
    """Return the share of each bundled benchmark's items that the training text holds; empty for other models."""
    stored = json.loads(TRAINING_SHARES.read_text(encoding="utf-8"))
    return dict(stored["shares"]) if stored["model_digest"] == digest else {}


def words(text: str) -> tuple[str, ...]:
    """Return the lower-cased words without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def seen_of(texts: Iterable[str]) -> Seen:
    """Return the hashes of all the texts."""
    seen = Seen()
    for text in texts:
        seen.add(text)
    return seen


def hashes_of(items: Iterable[Texts]) -> Seen:
    """Return the hashes that can match any of the items, as the filter `among` for a long text."""
    hashes = Seen()
    for item in items:
        for text in map(words, item):
            hashes.runs |= _runs(text)
            hashes.sentences |= {hash(text)} if len(text) < WORDS else set()
    return hashes


def share(items: Sequence[Texts], seen: Seen) -> float | None:
    """Return the share of the items that were seen, 0 to 1; None without items."""
    return sum(map(seen.holds, items)) / len(items) if items else None


def paragraphs(text: str) -> list[Texts]:
    """Return a text's paragraphs, between empty lines, as items."""
    return [(part,) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _runs(text: tuple[str, ...]) -> set[int]:
    return set(map(hash, zip(*(text[start:] for start in range(WORDS)), strict=False)))


def _sentences(text: str) -> Iterator[tuple[str, ...]]:
    return map(words, _SENTENCE.split(text))
