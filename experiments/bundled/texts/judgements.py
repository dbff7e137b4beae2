"""Answers with a right one beside them, and whether they say the same: the form of the bundled judge.

Right answers may lack their article or their capital, as the score of the benchmark allows. Wrong ones are of the same
kind, or answer another question about the passage: half of the answers are wrong.
"""

import random

from runtime_matrix.experiments.bundled.texts import passages
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import World

_OF_OTHERS = 0.5  # share of the wrong answers that another passage gives to the same kind of question
_ARTICLES = ("a ", "an ", "the ")


def judged(world: World, rng: random.Random, with_passage: float) -> Document:
    """Write a judge's prompt, and `right` or `wrong`. A share of the questions is asked as the benchmark asks them."""
    passage = _drawn(world, rng)
    asked = rng.choice(passage.questions)
    is_right = rng.random() < 0.5
    answer = _varied(asked.answer, rng) if is_right else _wrong(world, rng, passage, asked)
    question = asked.question
    if rng.random() < with_passage:
        question = passages.prompt(passage.text, question)
    return Document(" right" if is_right else " wrong", prompt(question, asked.answer, answer))


def prompt(question: str, reference: str, answer: str) -> str:
    """Return the prompt of the template `right_or_wrong`."""
    return f"Question: {question}\nReference: {reference}\nAnswer: {answer}\nRight or wrong:"


def _drawn(world: World, rng: random.Random) -> passages.Passage:
    passage = passages.draw(world, rng)
    while passage.is_held_out:
        passage = passages.draw(world, rng)
    return passage


def _wrong(world: World, rng: random.Random, passage: passages.Passage, asked: passages.Asked) -> str:
    """Return an answer of the same kind from another passage if one is found, or else one to another question."""
    if rng.random() < _OF_OTHERS:
        kind = passages.slot_of(asked.question)
        for _ in range(20):
            others = [one.answer for one in _drawn(world, rng).questions if passages.slot_of(one.question) == kind]
            different = [answer for answer in others if answer != asked.answer]
            if different:
                return different[0]
    return rng.choice([one.answer for one in passage.questions if one.answer != asked.answer])


def _varied(answer: str, rng: random.Random) -> str:
    """Return a right answer as it is, or without its article, or with another capital."""
    choice = rng.random()
    if choice < 0.15 and answer.lower().startswith(_ARTICLES):
        return answer.partition(" ")[2]
    if choice < 0.3:
        return answer[:1].upper() + answer[1:]
    return answer
