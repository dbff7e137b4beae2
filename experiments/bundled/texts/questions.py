"""Questions about the facts: the prompt format of the benchmark, the quiz pages of the training text, and the
multiple-choice questions. Scores nothing (see `scoring.py`)."""

import random
from dataclasses import dataclass

from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.wordings import WORDINGS
from runtime_matrix.experiments.bundled.texts.world import RELATIONS, Fact, World

LETTERS = "ABCD"
# The hard subjects: "Which river flows through the town where (the best friend of) Anna Berg lives?"
STEPS = {"two_steps": 2, "three_steps": 3}
DEV_QUESTIONS = 5  # a subject, as in Hendrycks et al. 2021 (arXiv 2009.03300)
TEST_QUESTIONS = {  # each for another fact, most facts of the smaller subjects
    "people": 160,
    "towns": 120,
    "animals": 120,
    "foods": 120,
    "tools": 100,
    "rivers": 80,
    "two_steps": 180,
    "three_steps": 180,
}


@dataclass(frozen=True)
class MultipleChoice:
    """A question with its choices."""

    question: str
    choices: tuple[str, ...]
    answer: int  # index of the right choice

    def row(self) -> list[str]:
        """Return the question as a row of MMLU's CSV files."""
        return [self.question, *self.choices, LETTERS[self.answer]]


def prompt(question: str) -> str:
    """Ask in the benchmark's format; the answer follows as `" " + text`."""
    return f"Question: {question}\nAnswer:"


def shot(question: str, answer: str) -> str:
    """Ask and answer: one example of a prompt. Examples are separated by a blank line."""
    return f"{prompt(question)} {answer}"


def quiz(world: World, rng: random.Random) -> str:
    """Write a page of training questions with their answers, about one kind of thing or about all of them mixed."""
    facts = world.quizzed_facts
    if rng.random() < 0.5:
        kind = rng.choice(facts).entity.kind
        facts = tuple(fact for fact in facts if fact.entity.kind == kind)
    asked = rng.sample(facts, rng.randint(2, 8))
    return "\n\n".join(shot(_ask(fact, rng, is_test=False), fact.value) for fact in asked)


def asked(fact: Fact, rng: random.Random) -> Document:
    """Ask for a fact in words of the training text; only the answer is learned."""
    return Document(f" {fact.value}", prompt(_ask(fact, rng, is_test=False)))


def judged(world: World, rng: random.Random) -> Document:
    """Write a question with an answer, and whether that is right: a judge's form. Half of the answers are wrong."""
    fact = rng.choice(world.quizzed_facts)
    wrong = rng.random() < 0.5
    answer = rng.choice(_wrong_answers(world, fact, rng)) if wrong else fact.value
    return Document(f" {'wrong' if wrong else 'right'}", judge_prompt(_ask(fact, rng, is_test=False), answer))


def judge_prompt(question: str, answer: str) -> str:
    """Ask whether an answer is right; `" right"` or `" wrong"` follows."""
    return f"{shot(question, answer)}\nRight or wrong:"


def benchmark(world: World) -> dict[str, tuple[list[MultipleChoice], list[MultipleChoice]]]:
    """Draw the examples and the test questions of every subject; no fact is asked twice."""
    askable = {kind: [fact for fact in world.all_facts if fact.entity.kind == kind] for kind in RELATIONS}
    askable |= {subject: list(world.untold_facts(steps)) for subject, steps in STEPS.items()}
    subjects = {}
    for subject, facts in askable.items():
        rng = random.Random(f"{world.seed}/benchmark/{subject}")
        asked = [
            _multiple_choice(world, fact, rng) for fact in rng.sample(facts, DEV_QUESTIONS + TEST_QUESTIONS[subject])
        ]
        subjects[subject] = (asked[:DEV_QUESTIONS], asked[DEV_QUESTIONS:])
    return subjects


def _multiple_choice(world: World, fact: Fact, rng: random.Random) -> MultipleChoice:
    choices = [fact.value, *_wrong_answers(world, fact, rng)]
    rng.shuffle(choices)
    return MultipleChoice(_ask(fact, rng, is_test=True), tuple(choices), choices.index(fact.value))


def _wrong_answers(world: World, fact: Fact, rng: random.Random) -> list[str]:
    """Draw what is right for other entities, as often as it is: to know which values are frequent must not help."""
    values = [other.value for other in world.all_facts if _is_same_relation(other, fact) and other.value != fact.value]
    rng.shuffle(values)
    different = list(dict.fromkeys(value for value in values if value != fact.entity.name))
    return different[: len(LETTERS) - 1]


def _is_same_relation(one: Fact, other: Fact) -> bool:
    return (one.entity.kind, one.relation) == (other.entity.kind, other.relation)


def _ask(fact: Fact, rng: random.Random, *, is_test: bool) -> str:
    wording = WORDINGS[fact.entity.kind, fact.relation]
    return rng.choice(wording.test_questions if is_test else wording.train_questions).format(e=fact.entity.name)
