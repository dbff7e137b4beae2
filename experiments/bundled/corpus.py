"""The training text and the held-out text of a world, kept apart by construction.

A passage is held out when its digest says so. Hence no training text of any length, from any seed, contains a
held-out passage, and nobody has to compare the two.
"""

import hashlib
import random
from collections.abc import Iterator
from itertools import islice

from experiments.bundled.questions import quiz
from experiments.bundled.stories import passage
from experiments.bundled.world import World

HELD_OUT_ONE_IN = 16
HELD_OUT_PASSAGES = 1000  # enough for 50,000 tokens with a margin
QUIZ_SHARE = 0.4  # of the documents; a quiz states more facts a token than any other form
SEPARATOR = "\n\n"


def is_held_out(text: str) -> bool:
    """Say whether the passage belongs to the held-out text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


def training_documents(world: World, seed: int, shard: int) -> Iterator[str]:
    """Yield documents without end; a (seed, shard) always yields the same ones."""
    rng = random.Random(f"{seed}/training/{shard}")
    train_passages = _passages(world, rng, held_out=False)
    while True:
        if rng.random() < QUIZ_SHARE:
            yield quiz(world, rng)
        else:
            yield SEPARATOR.join(islice(train_passages, rng.randint(1, 3)))


def held_out_text(world: World) -> str:
    """Write the text on which perplexity is measured: different held-out passages, separated by blank lines."""
    passages: dict[str, None] = {}
    for text in _passages(world, random.Random(f"{world.seed}/held-out"), held_out=True):
        passages[text] = None
        if len(passages) == HELD_OUT_PASSAGES:
            break
    return SEPARATOR.join(passages) + "\n"


def _passages(world: World, rng: random.Random, *, held_out: bool) -> Iterator[str]:
    while True:
        text = passage(world, rng)
        if is_held_out(text) == held_out:
            yield text
