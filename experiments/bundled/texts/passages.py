"""Passages of which one asks: what people did on a day. What they did is drawn anew for each passage, so that it must
be read there; where they live and what they work as is the world's.

A passage tells of one person, or of two or three who did the same things with other outcomes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.bundled.texts import vocabulary
from runtime_matrix.experiments.bundled.texts.document import Document, is_held_out
from runtime_matrix.experiments.bundled.texts.wordings import sentence
from runtime_matrix.experiments.bundled.texts.world import Entity, World

PASSAGES_HELD_OUT_ONE_IN = 8
QUESTIONS_HELD_OUT_ONE_IN = 4  # a question names its person, so that some 400 of them stay out of training
QUESTIONS_A_DOCUMENT = 5
BENCHMARK_QUESTIONS = 520
MOST_QUESTIONS_A_PASSAGE = 4
PEOPLE = (1, 2, 2, 3)  # in a passage of the training text
BENCHMARK_PEOPLE = (1, 1, 2)
COINS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty", "thirty")

Deed = tuple[tuple[str, ...], tuple[str, ...]]  # the slots that are filled, and the ways to tell it

# What may happen to a person.
DEEDS: tuple[Deed, ...] = (
    (
        ("day", "town"),
        (
            "on {day} {p} went to {town}",
            "{p} travelled to {town} on {day}",
            "when {day} came, {p} took the road to {town}",
        ),
    ),
    (
        ("goods", "coins"),
        (
            "{p} bought {goods} for {coins} coins",
            "for {coins} coins a trader gave {goods} to {p}",
            "{p} paid {coins} coins and came back with {goods}",
        ),
    ),
    (("meal",), ("at the inn {p} ate {meal}", "somebody gave {meal} to {p}", "{p} was hungry and ate {meal}")),
    (("tool",), ("{p} carried {tool}", "in a bag {p} had {tool}", "{p} had brought {tool} from home")),
    (("animal",), ("on the way {p} saw {animal}", "{animal} ran across the road before {p}", "{p} met {animal}")),
    (("music",), ("in the evening {p} heard {music}", "{music} was played for {p}", "{p} sang to {music}")),
)
ASKED: dict[str, tuple[str, ...]] = {
    "day": ("On which day did {e} travel?", "When did {e} go away?"),
    "town": ("To which town did {e} go?", "Where did {e} travel?"),
    "goods": ("What did {e} buy?", "What did {e} pay for?"),
    "coins": ("How many coins did {e} pay?", "What did the goods cost {e}?"),
    "meal": ("What did {e} eat?", "Which meal did {e} have?"),
    "tool": ("What did {e} carry?", "Which tool did {e} have in a bag?"),
    "animal": ("What did {e} see on the way?", "Which animal did {e} meet?"),
    "music": ("What did {e} hear in the evening?", "Which music did {e} hear?"),
    "home": ("Where did {e} come from?", "In which town did {e} live then?"),
    "job": ("As what did {e} work then?", "Which job did {e} have then?"),
}


@dataclass(frozen=True)
class Asked:
    """A question about a passage."""

    question: str
    answer: str  # a span of the passage
    is_known: bool  # a fact of the world, which memory answers as well


@dataclass(frozen=True)
class Passage:
    """A passage and its questions."""

    text: str
    questions: tuple[Asked, ...]

    @property
    def is_held_out(self) -> bool:
        """Return whether the training text leaves the passage out."""
        return is_held_out(self.text, PASSAGES_HELD_OUT_ONE_IN)


def prompt(passage: str, question: str) -> str:
    """Ask in the benchmark's format; the answer follows as `" " + text`."""
    return f"{_given(passage)}{_question(question)}"


def kind_of(asked: Asked) -> str:
    """Return what a question asks for, such as `day`."""
    return next(slot for slot, ways in ASKED.items() for way in ways if _fits(way, asked.question))


def reading(world: World, rng: random.Random) -> Document:
    """Write a document of the training text: a passage, and questions with their answers."""
    passage = draw(world, rng)
    while passage.is_held_out:
        passage = draw(world, rng)
    known = [asked for asked in passage.questions if not _is_held_out(asked)]
    asked = rng.sample(known, min(len(known), QUESTIONS_A_DOCUMENT))
    return Document("\n\n".join(f"{_question(one.question)} {one.answer}" for one in asked), _given(passage.text))


def benchmark(world: World) -> list[Passage]:
    """Draw the benchmark: passages and questions that are both kept out of training, and answered by reading alone."""
    rng = random.Random(f"{world.seed}/benchmark/passages")
    chosen: dict[str, Passage] = {}
    missing = BENCHMARK_QUESTIONS
    while missing > 0:
        passage = draw(world, rng, BENCHMARK_PEOPLE)
        asked = [one for one in passage.questions if _is_held_out(one) and not one.is_known]
        if not passage.is_held_out or not asked or passage.text in chosen:
            continue
        rng.shuffle(asked)
        chosen[passage.text] = Passage(passage.text, tuple(asked[: min(missing, MOST_QUESTIONS_A_PASSAGE)]))
        missing -= len(chosen[passage.text].questions)
    return list(chosen.values())


def draw(world: World, rng: random.Random, counts: Sequence[int] = PEOPLE) -> Passage:
    """Write a passage about as many people as one of `counts`, and each question that it answers, in one wording."""
    people = rng.sample(world.entities["people"], rng.choice(counts))
    deeds = rng.sample(DEEDS, {1: 4, 2: 3, 3: 2}[len(people)])
    outcomes = {slot: rng.sample(_values(world, slot), len(people)) for slots, _ in deeds for slot in slots}
    told: list[str] = []
    questions: list[Asked] = []
    for index, person in enumerate(people):
        mine = {slot: values[index] for slot, values in outcomes.items()}
        kind, introduction = _introduction(world, rng, person)
        told += [introduction, *_deeds(rng, person, deeds, mine)]
        mine[kind] = world.value(person, kind)
        questions += [Asked(_ask(rng, slot, person), value, slot == kind) for slot, value in mine.items()]
    return Passage(" ".join(map(sentence, told)), tuple(questions))


def _deeds(rng: random.Random, person: Entity, deeds: list[Deed], mine: dict[str, str]) -> list[str]:
    ways = [rng.choice(ways) for _, ways in deeds]
    return [way.format(p=person.short, **mine) for way in rng.sample(ways, len(ways))]


def _introduction(world: World, rng: random.Random, person: Entity) -> tuple[str, str]:
    """Return which fact of the world the first sentence tells, and that sentence."""
    home, job = world.value(person, "home"), world.value(person, "job")
    if rng.random() < 0.5:
        return "home", rng.choice((f"{person.name} came from {home}", f"{person.name} lived in {home}"))
    return "job", rng.choice((f"{person.name} was {job}", f"{person.name} worked as {job}"))


def _values(world: World, slot: str) -> list[str]:
    pools = {"day": "days", "goods": "goods", "music": "instruments"}
    kinds = {"town": "towns", "meal": "foods", "tool": "tools", "animal": "animals"}
    if slot == "coins":
        return list(COINS)
    if slot in pools:
        return list(vocabulary.POOLS[pools[slot]])
    return [entity.name for entity in world.entities[kinds[slot]]]


def _ask(rng: random.Random, slot: str, person: Entity) -> str:
    return rng.choice(ASKED[slot]).format(e=person.name)


def _fits(way: str, question: str) -> bool:
    before, _, after = way.partition("{e}")
    return question.startswith(before) and question.endswith(after)


def _is_held_out(asked: Asked) -> bool:
    return is_held_out(asked.question, QUESTIONS_HELD_OUT_ONE_IN)


def _given(passage: str) -> str:
    return f"Passage: {passage}\n\n"


def _question(question: str) -> str:
    return f"Question: {question}\nAnswer:"
