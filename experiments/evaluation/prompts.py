"""The prompts of timed rounds: seeded token ids, fresh ones each round and the same for all cells that take turns."""

from __future__ import annotations

import random
from collections.abc import Sequence

Prompts = list[list[int]]
_SPECIAL = 8  # the first ids of a vocabulary, which are often special, are left out


def draw_prompts(key: str, rows: int, tokens: Sequence[int], vocabulary: int) -> Prompts:
    """Return `rows` prompts of one length, drawn from the shortest to the longest of `tokens`; `key` is the seed."""
    source = random.Random(key)
    length = source.randint(min(tokens), max(tokens))
    first = min(_SPECIAL, vocabulary - 1)
    return [[source.randrange(first, vocabulary) for _ in range(length)] for _ in range(rows)]
