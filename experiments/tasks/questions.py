"""Loads the questions of a data set, and divides them into test questions and few-shot examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.choices.question import (
    LETTERS,
    WANTED,
    Question,
    Questions,
    ReadQuestions,
)
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import chosen

__all__ = ["LETTERS", "Question", "QuestionSet", "load"]
KIND = "choices"


@dataclass(frozen=True)
class QuestionSet:
    """Test questions, subject by subject, and the few-shot examples of each subject."""

    questions: list[Question]
    shots_by_subject: dict[str, list[Question]]
    format: str = "plain"
    normalise: str | None = None  # see `ReadQuestions`, also for the following
    is_sentences: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_answers(self) -> bool:
        """Return whether the right choices are known: of all questions, or of none."""
        return self.questions[0].answer is not None


def load(
    path: Path,
    limit: int | None,
    shots: int,
    fields: Mapping[str, str] | None = None,
    format_name: str | None = None,
) -> QuestionSet:
    """Read the questions of a path in any known format, or in the one that is named.

    `fields` maps our field names to the data's. `limit` takes questions from the subjects in turn; the result is
    grouped by subject. UserError gives the file and line of unusable data.
    """
    content = Content(path, WANTED, fields)
    form = chosen(KIND, content, format_name, "multiple_choice")
    read: ReadQuestions = form.read(content)
    _check_answers(read.by_subject, path)
    by_subject, examples = _divided(read, shots, path)
    questions = _in_turn(list(by_subject.values()), limit)
    if not questions:
        raise UserError(f"{path} has no question left to ask; give more questions or fewer shots than {shots}")
    data_files.check_unique((question.id for question in questions), path)
    return QuestionSet(questions, examples, form.name, read.normalise, read.is_sentences, read.left_out)


def _divided(read: ReadQuestions, shots: int, path: Path) -> tuple[Questions, Questions]:
    """Return the test questions and the few-shot examples."""
    by_subject = read.by_subject
    if read.is_sentences or (shots == 0 and read.examples is not None):
        return by_subject, {}
    if read.examples is not None:
        return by_subject, read.examples(shots)
    if shots and any(question.answer is None for group in by_subject.values() for question in group):
        raise UserError(
            f"{path} has no answers, which examples before a question need: set benchmark.multiple_choice.shots=0"
        )
    # The data has no separate examples: the first questions of each subject serve, and are not scored.
    examples = {subject: group[:shots] for subject, group in by_subject.items()}
    return {subject: group[shots:] for subject, group in by_subject.items()}, examples


def _check_answers(by_subject: Questions, path: Path) -> None:
    """Raise UserError if only some questions have an answer: the score of a part would pass for that of the set."""
    questions = [question for group in by_subject.values() for question in group]
    without = [question.id for question in questions if question.answer is None]
    if 0 < len(without) < len(questions):
        raise UserError(
            f"{path}: {without[0]} has no answer, but {len(questions) - len(without)} of {len(questions)} questions "
            "have one: remove one of the two parts"
        )


def _in_turn(groups: Sequence[Sequence[Question]], limit: int | None) -> list[Question]:
    if limit is None:
        return [question for group in groups for question in group]
    longest = max(len(group) for group in groups)
    turns = [
        (place, group[index]) for index in range(longest) for place, group in enumerate(groups) if index < len(group)
    ]
    return [question for _, question in sorted(turns[:limit], key=lambda turn: turn[0])]
