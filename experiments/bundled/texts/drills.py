"""Drills: lists whose second half follows from the first. They teach a model to look back before it must read.

Words that were learned only from text about the world are guessed from memory; a drill leaves nothing to remember.
"""

import random

from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import World


def repetition(world: World, rng: random.Random) -> Document:
    """Write a list of names and the same list again."""
    names = ", ".join(_names(world, rng, rng.randint(6, 16)))
    return Document(f" {names}.", f"List: {names}.\nList:")


def recall(world: World, rng: random.Random) -> Document:
    """Write pairs of names, and some of the pairs again in another order."""
    count = rng.randint(3, 8)
    names = _names(world, rng, 2 * count)
    pairs = [f"{key}: {value}." for key, value in zip(names[:count], names[count:], strict=True)]
    return Document(" " + " ".join(rng.sample(pairs, count)), " ".join(pairs))


def _names(world: World, rng: random.Random, count: int) -> list[str]:
    kinds = [kind for kind in world.entities if kind != "people"]
    pool = [entity.short for entity in world.entities["people"]]
    pool += [entity.name for kind in kinds for entity in world.entities[kind]]
    return rng.sample(pool, count)
