"""What the bundled adapters learn: text that the base never saw, and the benchmark that asks for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.bundled import make_data
from runtime_matrix.experiments.bundled.texts import (
    articles,
    errands,
    functions,
    new_steps,
    passages,
    questions,
    stories,
)
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import ADAPTER_SEEDS, WORLD_SEED, World, build_world

QUESTIONS_A_SUBJECT = 40
_SHARE_OF_QUESTIONS = 0.8  # of the second world's text; the rest tells of an entity
_REPLAYED = 0.3  # without documents of forms that the base knows, programs fell from 0.80 to 0.07


@dataclass(frozen=True)
class Skill:
    """A skill of an adapter: its text, without end, and the files of its benchmark."""

    about: str
    benchmark: str
    write: Callable[[random.Random], Document]
    write_data: Callable[[Path], None]
    replayed: float = 0.0  # share of documents of forms that the base knows

    def documents(self, seed: int, shard: int) -> Iterator[Document]:
        """Yield documents without end; a (seed, shard) always yields the same ones."""
        rng = random.Random(f"{seed}/{self.about}/{shard}")
        while True:
            if not self.replayed or rng.random() > self.replayed:
                yield self.write(rng)
            else:
                forms = (passages.reading, articles.news, lambda world, rng: functions.code(rng))
                yield rng.choice(forms)(_world(), rng)


@cache
def _world(seed: int = WORLD_SEED) -> World:
    return build_world(seed)


def _facts(rng: random.Random) -> Document:
    """Write a question about the second world with its answer, or what is known of one entity."""
    world = _world(ADAPTER_SEEDS[0])
    if rng.random() > _SHARE_OF_QUESTIONS:
        return Document(stories.portrait(world, rng))
    return questions.asked(rng.choice(world.all_facts), rng)


def _write_facts(folder: Path) -> None:
    for subject, (dev, test) in questions.benchmark(_world(ADAPTER_SEEDS[0])).items():
        if subject not in questions.STEPS:
            make_data.write_questions(folder / "dev" / f"{subject}_dev.csv", dev)
            make_data.write_questions(folder / "test" / f"{subject}_test.csv", test[:QUESTIONS_A_SUBJECT])


def _write_problems(folder: Path) -> None:
    rows = make_data.problem_rows("new-steps", new_steps.benchmark(ADAPTER_SEEDS[1]))
    make_data.write_lines(folder / "code.jsonl", rows)


def _errand(rng: random.Random) -> Document:
    return passages.reading(_world(), rng, errands.FORMS)


def _write_errands(folder: Path) -> None:
    drawn = passages.benchmark(_world(), errands.FORMS, errands.BENCHMARK_QUESTIONS, "errands")
    make_data.write_passages(folder / "extractive_qa.json", "Errands", drawn)


SKILLS = {
    "second_world": Skill("facts of another world", "multiple_choice", _facts, _write_facts),
    "code_steps": Skill("functions with steps of another kind", "code", new_steps.code, _write_problems, _REPLAYED),
    "errands": Skill("passages that tell of other deeds", "extractive_qa", _errand, _write_errands, _REPLAYED),
}
