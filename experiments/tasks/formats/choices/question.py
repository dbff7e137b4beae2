"""A question with choices, and what a reader of a format returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime_matrix.experiments.config.errors import UserError

LETTERS = "ABCDEFGHIJ"
WANTED = "a CSV, a JSONL or a folder in Hendrycks' layout"
Questions = dict[str, list["Question"]]  # by subject


@dataclass(frozen=True, slots=True)
class Truths:
    """The answers of a question with several right ones (MC2 of TruthfulQA), and which of them are true."""

    answers: tuple[str, ...]
    is_true: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with at least two choices; most formats have up to ten."""

    id: str
    subject: str
    text: str
    choices: tuple[str, ...]
    answer: int | None  # index of the right choice; None: the set comes without answers
    labels: tuple[str, ...] = ()  # what the set calls its choices; empty: letters
    truths: Truths | None = None

    @property
    def scored_texts(self) -> tuple[str, ...]:
        """Return the texts whose log-probabilities are needed: the choices, and further answers of MC2."""
        further = self.truths.answers if self.truths is not None else ()
        return tuple(dict.fromkeys((*self.choices, *further))) if further else self.choices

    def label(self, index: int) -> str:
        """Return what the set calls a choice."""
        return self.labels[index] if self.labels else LETTERS[index]


@dataclass(frozen=True)
class ReadQuestions:
    """The questions of a data set as its reader found them."""

    by_subject: Questions
    examples: Callable[[int], Questions] | None = None  # few-shot examples of its own, for so many shots
    normalise: str | None = None  # the normalization that the set's authors score by; None: the benchmark's option
    is_sentences: bool = False  # the choices are whole sentences, scored without a question
    left_out: Mapping[str, int] = field(default_factory=dict)  # why questions were left out, and how many


def grouped(questions: Sequence[Question]) -> Questions:
    """Return the questions by subject, in the order in which subjects first occur."""
    by_subject: Questions = {}
    for question in questions:
        by_subject.setdefault(question.subject, []).append(question)
    return by_subject


def index_of(answer: object, labels: Sequence[str], where: str) -> int:
    """Return the index of the right choice, given by its label; UserError for another answer."""
    word = str(answer).strip()
    if word not in labels:
        raise UserError(f"{where}: the answer {word!r} is not one of the choices {', '.join(labels)}")
    return list(labels).index(word)


def behind(marks: Sequence[re.Match[str]], text: str) -> list[str]:
    """Return the texts behind each mark, up to the next one."""
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    return [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]


def without_letter(choice: str, letter: str) -> str:
    """Return a choice without its own letter, such as "A. …"; unchanged if it has none."""
    match = re.match(rf"\s*\(?{letter}[.):]\s*", choice)
    return choice[match.end() :].rstrip() if match is not None and choice[match.end() :].strip() else choice
