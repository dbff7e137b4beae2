"""VNHSGE (Dao et al. 2023, arXiv 2305.12199): JSON arrays whose questions hold their options, one per line.

A file, or a folder of files. Questions that need an image, and those without an answer, are left out and counted.
Essays have other fields and are refused.
"""

from __future__ import annotations

import re
from collections import Counter

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.choices.question import (
    LETTERS,
    Question,
    ReadQuestions,
    behind,
    grouped,
    index_of,
)
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "VNHSGE's JSON"
_ESSAY = "Câu hỏi"
_FEWEST = 3  # options
_SUBJECT = re.compile(r"(?:MET_)?([A-Za-z]+)_")


def _claims(content: Content) -> bool:
    first = _files(content)[0].first if _files(content) else {}
    return {"ID", "Question"} <= first.keys() or _ESSAY in first


def _files(content: Content) -> list[Content]:
    return content.files("**/*.json") if content.is_folder else [content]


def _read(content: Content) -> ReadQuestions:
    left_out: Counter[str] = Counter()
    questions = []
    for file in _files(content):
        for where, item in file.items():
            reason = _why_left_out(item, where)
            if reason is None:
                questions.append(_question(item, where))
            else:
                left_out[reason] += 1
    if not questions:
        raise UserError(f"{content.path} holds no question that can be asked: {dict(left_out)}")
    return ReadQuestions(grouped(questions), left_out=dict(left_out))


def _why_left_out(item: JsonObject, where: str) -> str | None:
    if _ESSAY in item:
        raise UserError(f"{where}: an essay question ({_ESSAY!r}) has no choices: give VNHSGE's other subjects")
    for name in ("Choice", "Image_Question"):
        if name not in item:
            raise UserError(f"{where}: has no {name}, as in {TITLE}; found {', '.join(map(str, item))}")
    if item["Image_Question"]:
        return "needs an image"
    return None if str(item["Choice"]).strip() else "has no answer"


def _question(item: JsonObject, where: str) -> Question:
    name = text_field(item, "ID", where, TITLE)
    text, choices = _divided(text_field(item, "Question", where, TITLE))
    if len(choices) < _FEWEST:
        raise UserError(
            f"{where}: the Question of {name} holds no options A., B., C. on lines of their own, as in {TITLE}"
        )
    subject = _SUBJECT.match(name)
    answer = index_of(item["Choice"], LETTERS[: len(choices)], f"{where} ({name})")
    return Question(name, subject[1] if subject is not None else "", text, choices, answer)


def _divided(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the question and its options: the last lines that start with A., B., C. and so on, in this order."""
    starts = list(re.finditer(r"^[ \t]*A[.)]", text, re.MULTILINE))
    if not starts:
        return text, ()
    marks = [starts[-1]]
    for letter in LETTERS[1:]:
        match = re.compile(rf"(?:^|(?<=\t))[ \t]*{letter}[.)]", re.MULTILINE).search(text, marks[-1].end())
        if match is None:
            break
        marks.append(match)
    options = tuple(behind(marks, text))
    return text[: marks[0].start()].strip(), options if all(options) else ()


FORMAT = Format("vnhsge", TITLE, _claims, _read)
