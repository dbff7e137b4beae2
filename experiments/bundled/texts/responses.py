"""Questions about passages for the benchmark `detection`: some that the passage answers and some that it does not.

The model answers them elsewhere (`make_detection.py`). A response of the kind `swapped` is given here: the value of
another person, or another value of the kind. Passages and questions are held out of training, as the benchmark's are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runtime_matrix.experiments.bundled.texts import passages
from runtime_matrix.experiments.bundled.texts.passages import Asked, Passage
from runtime_matrix.experiments.bundled.texts.world import World

PASSAGES = 180
Kind = Literal["answerable", "unanswerable", "swapped"]
# Of a passage's second question; the first is answerable. The model answers every fourth one wrong: half of all
# responses are unsupported.
SECOND: dict[Kind, int] = {"answerable": 40, "unanswerable": 45, "swapped": 15}


@dataclass(frozen=True)
class Prompted:
    """A question about a passage. `answer`: the right one; None if the passage does not answer."""

    source_id: str
    passage: str
    question: str
    kind: Kind
    answer: str | None
    given: str | None = None  # the response, if the model is not asked


def prompted(world: World) -> Iterator[Prompted]:
    """Yield two questions for each passage; the same ones for the same world."""
    rng = random.Random(f"{world.seed}/benchmark/detection")
    seen: set[str] = set()
    while len(seen) < PASSAGES:
        passage = passages.draw(world, rng)
        asked = [one for one in passage.questions if passages.is_asked_in_benchmarks(one)]
        if not passage.is_held_out or len(asked) < 2 or passage.text in seen:
            continue
        unanswered = _unanswered(world, passage, rng)
        if not unanswered:
            continue
        source_id = f"passage-{len(seen)}"
        seen.add(passage.text)
        first, second = rng.sample(asked, 2)
        yield Prompted(source_id, passage.text, first.question, "answerable", first.answer)
        kind = rng.choices(list(SECOND), list(SECOND.values()))[0]
        if kind == "unanswerable":
            yield Prompted(source_id, passage.text, rng.choice(unanswered), kind, None)
        else:
            given = _other_value(world, passage, second, rng) if kind == "swapped" else None
            yield Prompted(source_id, passage.text, second.question, kind, second.answer, given)


def _unanswered(world: World, passage: Passage, rng: random.Random) -> list[str]:
    """Return questions about the passage's people that it does not answer."""
    told = {passages.slot_of(one.question) for one in passage.questions}
    free = [slot for slot in passages.SLOTS if slot not in told]
    people = [person for person in world.entities["people"] if person.name in passage.text]
    asked = [Asked(passages.ask(rng, slot, person), "", False) for slot in free for person in people]
    return [one.question for one in asked if passages.is_asked_in_benchmarks(one)]


def _other_value(world: World, passage: Passage, asked: Asked, rng: random.Random) -> str:
    """Return another value of the answer's kind: that of another person in the passage, or one that it lacks."""
    slot = passages.slot_of(asked.question)
    others = [value for value in passages.values(world, slot) if value != asked.answer]
    told = [one.answer for one in passage.questions if passages.slot_of(one.question) == slot]
    present = [value for value in others if value in told]
    return rng.choice(present if present and rng.random() < 0.5 else others)
