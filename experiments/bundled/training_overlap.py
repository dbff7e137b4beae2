"""Which of the bundled test items share 13 words or a sentence with the text that the bundled model was trained on.

`python -m experiments.bundled.training_overlap` makes that text again, some 80 MB of it, and writes the shares beside
this file, with the digest of the model that they hold for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice

from runtime_matrix.experiments.bundled.corpus import training_documents
from runtime_matrix.experiments.bundled.scoring import BENCHMARKS
from runtime_matrix.experiments.bundled.texts.world import build_world
from runtime_matrix.experiments.bundled.training import LEGS, STEPS_PER_SHARD, first_shard_of
from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.models import inspect_folder
from runtime_matrix.experiments.execution.worker.overlap import texts_of
from runtime_matrix.experiments.tasks import overlap


@dataclass(frozen=True)
class TrainingOverlap:
    """What the file beside this one holds."""

    model_digest: str
    documents: int
    tokens: int
    words: int  # of a passage
    shares: dict[str, float | None]  # by benchmark


def measure() -> TrainingOverlap:
    """Go through the training text, shard by shard, as training did."""
    from tokenizers import Tokenizer

    names = ",".join(BENCHMARKS)
    sets = texts_of(plan(compose([f"benchmark=[{names}]"]), "").config.benchmark)
    item_hashes = overlap.hashes_of(item for test_set in sets.values() for item in test_set.items)
    world = build_world()
    tokenizer = Tokenizer.from_file(str(BUNDLED / "model" / "tokenizer.json"))
    seen, documents, tokens = overlap.Seen(), 0, 0
    shards = [
        (recipe, first_step) for recipe in LEGS["model"] for first_step in range(0, recipe.steps, STEPS_PER_SHARD)
    ]
    for recipe, first_step in shards:
        steps = min(STEPS_PER_SHARD, recipe.steps - first_step)
        left = steps * recipe.batch_size * (recipe.window - 1)
        stream = training_documents(world, recipe.seed, first_shard_of(recipe) + first_step // STEPS_PER_SHARD)
        while left > 0:
            texts = [document.given + document.text for document in islice(stream, 256)]
            for text, encoded in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True):
                if left <= 0:
                    break
                seen.add(text, among=item_hashes)
                used = len(encoded.ids) + 2  # between the beginning and the end of a text
                left, documents, tokens = left - used, documents + 1, tokens + used
    return TrainingOverlap(
        model_digest=inspect_folder(BUNDLED / "model").digest,
        documents=documents,
        tokens=tokens,
        words=overlap.WORDS,
        shares={name: overlap.share(test_set.items, seen) for name, test_set in sets.items()},
    )


def main() -> None:
    """Write the share of the benchmarks' text that the training text contains."""
    overlap.TRAINING_SHARES.write_text(json.dumps(vars(measure()), indent=1) + "\n")
    print(f"wrote {overlap.TRAINING_SHARES}")


if __name__ == "__main__":
    main()
