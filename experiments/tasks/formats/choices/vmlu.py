"""VMLU (ZaloAI and JAIST): JSON lines of id, question and choices, which carry their letters; only some have answers.

The subject is the number before the hyphen of an id. The test set has no answers. Where dev.jsonl lies beside the
file, it gives the few-shot examples, as it is meant to.
"""

from __future__ import annotations

import re
from functools import partial

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.choices.question import (
    LETTERS,
    Question,
    Questions,
    ReadQuestions,
    grouped,
    index_of,
    without_letter,
)
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "VMLU's JSON lines"
_ID = re.compile(r"(\d{2})-\d{4}")
_CHOICES = range(2, 6)


def _claims(content: Content) -> bool:
    first = content.first
    return "choices" in first and _ID.fullmatch(str(first.get("id"))) is not None


def _read(content: Content) -> ReadQuestions:
    by_subject = grouped([_question(item, where) for where, item in content.items()])
    dev = content.path.parent / "dev.jsonl"
    if content.path.name == dev.name or not dev.is_file():
        return ReadQuestions(by_subject)
    return ReadQuestions(by_subject, partial(_examples, Content(dev, content.wanted), list(by_subject)))


def _examples(dev: Content, subjects: list[str], shots: int) -> Questions:
    examples = grouped([_question(item, where) for where, item in dev.items()])
    for subject in subjects:
        found = [question for question in examples.get(subject, []) if question.answer is not None]
        if len(found) < shots:
            raise UserError(
                f"{dev.path} has {len(found)} answered examples of the subject {subject}, but shots={shots}: lower "
                "benchmark.multiple_choice.shots"
            )
    return examples


def _question(item: JsonObject, where: str) -> Question:
    name = _ID.fullmatch(text_field(item, "id", where, TITLE))
    if name is None:
        raise UserError(f"{where}: id must be like 28-0021, as in {TITLE}; found {item['id']!r}")
    choices = item.get("choices")
    if not isinstance(choices, list) or len(choices) not in _CHOICES or not all(isinstance(c, str) for c in choices):
        raise UserError(
            f"{where}: choices must be a list of {_CHOICES[0]} to {_CHOICES[-1]} texts, as in {TITLE}; found "
            f"{str(choices)[:60]}"
        )
    texts = tuple(without_letter(choice, letter) for choice, letter in zip(choices, LETTERS, strict=False))
    answer = item.get("answer")
    index = index_of(answer, LETTERS[: len(texts)], where) if answer not in (None, "") else None
    return Question(name[0], name[1], text_field(item, "question", where, TITLE), texts, index)


FORMAT = Format("vmlu", TITLE, _claims, _read)
