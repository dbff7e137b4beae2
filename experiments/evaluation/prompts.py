"""The prompts of timed rounds: seeded token ids, new in each round and the same for all interleaved cells."""

from __future__ import annotations

import random
from collections.abc import Sequence

Prompts = list[list[int]]
_SPECIAL = 8  # ids at the start of a vocabulary that are left out: they are often special tokens


def draw_prompts(key: str, rows: int, tokens: Sequence[int], vocabulary: int) -> Prompts:
    """Return `rows` prompts of one random length between the smallest and largest of `tokens`; `key` is the seed."""
    source = random.Random(key)
    length = source.randint(min(tokens), max(tokens))
    first = min(_SPECIAL, vocabulary - 1)
    return [[source.randrange(first, vocabulary) for _ in range(length)] for _ in range(rows)]
