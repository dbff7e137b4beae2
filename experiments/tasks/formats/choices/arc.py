"""ARC (Clark et al. 2018, arXiv 1803.05457): AI2's JSON lines and CSV, and the Hub's rows as JSON.

Choices have labels, letters or digits, and three to five of them. In the CSV they stand in the question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.choices.question import (
    Question,
    ReadQuestions,
    behind,
    grouped,
    index_of,
)
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "ARC's JSON lines or CSV"
_CSV = {"questionID", "question", "AnswerKey"}
_CHOICE = re.compile(r"\(([A-E]|[1-5])\)\s")
_CHOICES = range(3, 6)


def _claims(content: Content) -> bool:
    first, question = content.first, content.first.get("question")
    if isinstance(question, Mapping):
        return "stem" in question or "choices" in question
    # Other sets have this layout too; those without ids are read by the fields that they have.
    is_of_hub = isinstance(first.get("choices"), Mapping) and {"id", "answerKey"} <= first.keys()
    return is_of_hub or {"questionID", "AnswerKey"} <= set(content.header)


def _read(content: Content) -> ReadQuestions:
    return ReadQuestions(grouped(list(_of_json(content) if content.is_json else _of_csv(content))))


def _of_json(content: Content) -> Iterator[Question]:
    subject = content.path.stem
    for where, item in content.items():
        name = text_field(item, "id", where, TITLE)
        question = item.get("question")
        if isinstance(question, Mapping):
            text, pairs = text_field(dict(question), "stem", where, TITLE), _pairs(question.get("choices"), where)
        else:
            text, pairs = text_field(item, "question", where, TITLE), _pairs(item.get("choices"), where)
        yield _question(name, subject, text, pairs, item.get("answerKey"), where)


def _pairs(choices: Any, where: str) -> list[tuple[str, str]]:
    """Return (label, text) of each choice: a list of objects, or the Hub's object of two lists."""
    try:
        if isinstance(choices, Mapping):
            pairs = list(zip(choices["label"], choices["text"], strict=True))
        else:
            pairs = [(choice["label"], choice["text"]) for choice in choices]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: choices must have label and text each, as in {TITLE}; found {str(choices)[:60]}"
        ) from error
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise UserError(f"{where}: label and text of a choice must be texts, as in {TITLE}; found {str(choices)[:60]}")
    return pairs


def _of_csv(content: Content) -> Iterator[Question]:
    missing = _CSV - set(content.header)
    if missing:
        raise UserError(f"{content.path}: no column {', '.join(sorted(missing))}, as in {TITLE}")
    for where, row in content.records():
        whole = text_field(row, "question", where, TITLE)
        marks = list(_CHOICE.finditer(whole))
        pairs = list(zip([mark[1] for mark in marks], behind(marks, whole), strict=True))
        text = whole[: marks[0].start()].strip() if marks else whole
        yield _question(row["questionID"], content.path.stem, text, pairs, row["AnswerKey"], where)


def _question(name: str, subject: str, text: str, pairs: list[tuple[str, str]], answer: Any, where: str) -> Question:
    labels, texts = tuple(label for label, _ in pairs), tuple(choice for _, choice in pairs)
    if len(pairs) not in _CHOICES or len(set(labels)) != len(labels):
        raise UserError(
            f"{where}: {name} must have {_CHOICES[0]} to {_CHOICES[-1]} choices with different labels, as in {TITLE}; "
            f"found {', '.join(labels) or 'none'}"
        )
    index = index_of(answer, labels, where) if answer not in (None, "") else None
    return Question(name, subject, text, texts, index, labels)


FORMAT = Format("arc", TITLE, _claims, _read)
