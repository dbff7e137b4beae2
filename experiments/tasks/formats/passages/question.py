"""A question about a passage, and how a reader checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime_matrix.experiments.config.errors import UserError

WANTED = "a JSON file in SQuAD's layout"


@dataclass(frozen=True)
class Question:
    """A question about the passage `context`, with its distinct gold answers; none if it is unanswerable."""

    id: str
    context: str
    text: str
    answers: tuple[str, ...]
    may_refuse: bool = False  # the set has unanswerable questions, so that each may be refused


def checked(
    name: str, context: object, text: object, answers: Sequence[object], is_impossible: object, where: str
) -> Question:
    """Return the question; UserError for parts that are no text, and for answers that contradict `is_impossible`."""
    distinct = tuple(dict.fromkeys(answers))
    for part, value in (("context", context), ("question", text), *(("answer", answer) for answer in distinct)):
        if not isinstance(value, str):
            raise UserError(f"{where}: the {part} of the question {name!r} is not a string: {value!r}")
    if is_impossible not in (None, True, False):
        raise UserError(
            f"{where}: is_impossible of the question {name!r} must be true or false; found {is_impossible!r}"
        )
    if distinct and is_impossible:
        raise UserError(f"{where}: the question {name!r} has answers, although is_impossible is true")
    if not distinct and not is_impossible:
        raise UserError(
            f"{where}: the question {name!r} has no answer, and no is_impossible that is true says that there is none: "
            "test sets without answers cannot be scored"
        )
    return Question(name, str(context), str(text), tuple(map(str, distinct)))


def as_one_set(questions: Sequence[Question]) -> list[Question]:
    """Return the questions, each of which may be refused if any of them is unanswerable."""
    may_refuse = any(not question.answers for question in questions)
    return [replace(question, may_refuse=True) for question in questions] if may_refuse else list(questions)
