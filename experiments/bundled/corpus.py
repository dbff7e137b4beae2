"""The training text, and the text on which perplexity is measured: kept apart by construction.

What the benchmarks hold is held out by its digest. Hence no training text of any length, from any seed, contains it,
and nobody has to compare the two.
"""

import random
from collections.abc import Iterator
from itertools import islice

from runtime_matrix.experiments.bundled.texts import articles, drills, functions, passages, programs, questions, stories
from runtime_matrix.experiments.bundled.texts.document import Document, is_held_out
from runtime_matrix.experiments.bundled.texts.world import World

STORIES_HELD_OUT_ONE_IN = 16
HELD_OUT_STORIES = 900  # enough for 50,000 tokens with a margin
CALIBRATION_DOCUMENTS = 400  # 40,000 tokens: more than methods ask for
_CALIBRATION_SEED = 1_000_003  # no training run has it
SEPARATOR = "\n\n"
# Shares of the documents. The warm-up has most drills, because reading and summarization build on them.
WARM_UP_SHARDS = 8
WARM_UP = {"drills": 40, "facts": 30, "reading": 15, "news": 5, "code": 10}
MIXTURE = {"drills": 2, "facts": 31, "reading": 21, "news": 12, "code": 17, "programs": 12, "judged": 5}
# The second leg has more of what the first learned least: passages where several people act.
SECOND_LEG_SHARD = 10_000  # its first one: no text of the first leg comes again
SECOND_LEG = {"drills": 4, "facts": 22, "reading": 40, "news": 9, "code": 13, "programs": 9, "judged": 3}
# What techniques for better answers ask for, each as often as the others.
PROGRAMS = (programs.with_examples, programs.repaired, programs.asserts, programs.solved_before)


def training_documents(world: World, seed: int, shard: int) -> Iterator[Document]:
    """Yield documents without end; a (seed, shard) always yields the same ones."""
    rng = random.Random(f"{seed}/training/{shard}")
    shares = WARM_UP if shard < WARM_UP_SHARDS else MIXTURE if shard < SECOND_LEG_SHARD else SECOND_LEG
    train_stories = _stories(world, rng, held_out=False)
    while True:
        match rng.choices(list(shares), list(shares.values()))[0]:
            case "drills":
                yield rng.choice((drills.repetition, drills.recall))(world, rng)
            case "reading":
                yield passages.reading(world, rng)
            case "news":
                yield articles.news(world, rng)
            case "code":
                yield functions.code(rng)
            case "programs":
                yield rng.choice(PROGRAMS)(rng)
            case "judged":
                yield questions.judged(world, rng)
            case _:
                # A quiz states more facts per token than any other form.
                yield rng.choice(
                    (
                        lambda: Document(questions.quiz(world, rng)),
                        lambda: Document(SEPARATOR.join(islice(train_stories, rng.randint(1, 2)))),
                    )
                )()


def calibration_text(world: World) -> str:
    """Write the text by which quantization methods calibrate: as training saw it, of a seed of its own."""
    documents = training_documents(world, _CALIBRATION_SEED, WARM_UP_SHARDS)
    chosen = islice(documents, CALIBRATION_DOCUMENTS)
    return SEPARATOR.join(document.given + document.text for document in chosen) + "\n"


def held_out_text(world: World) -> str:
    """Write the text on which perplexity is measured: different held-out stories, separated by blank lines."""
    chosen: dict[str, None] = {}
    for text in _stories(world, random.Random(f"{world.seed}/held-out"), held_out=True):
        chosen[text] = None
        if len(chosen) == HELD_OUT_STORIES:
            break
    return SEPARATOR.join(chosen) + "\n"


def _stories(world: World, rng: random.Random, *, held_out: bool) -> Iterator[str]:
    while True:
        text = stories.passage(world, rng)
        if is_held_out(text, STORIES_HELD_OUT_ONE_IN) == held_out:
            yield text
