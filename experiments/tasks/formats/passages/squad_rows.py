"""SQuAD's questions as rows of the Hugging Face Hub, one object each, as UIT-ViQuAD 2.0 is published there.

`answers` is an object of lists, `text` and `answer_start`, or an empty list.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format
from runtime_matrix.experiments.tasks.formats.passages.question import Question, as_one_set, checked

TITLE = "rows of SQuAD's questions as JSON"
_FIELDS = ("id", "context", "question", "answers")


def _claims(content: Content) -> bool:
    return {"context", "question"} <= content.first.keys()


def _read(content: Content) -> list[Question]:
    return as_one_set([_question(item, where) for where, item in content.items()])


def _question(item: JsonObject, where: str) -> Question:
    for name in _FIELDS:
        if name not in item:
            raise UserError(f"{where}: has no {name}, as in {TITLE}; found {', '.join(map(str, item))}")
    answers = item["answers"]
    texts = answers.get("text") if isinstance(answers, Mapping) else answers
    if not isinstance(texts, list) or (texts and texts is answers):
        raise UserError(f"{where}: answers must have a list `text`, as in {TITLE}; found {str(answers)[:60]}")
    impossible = item.get("is_impossible")  # rows of SQuAD 2.0 itself only have an empty list
    impossible = not texts if impossible is None else impossible
    return checked(str(item["id"]), item["context"], item["question"], texts, impossible, where)


FORMAT = Format("squad_rows", TITLE, _claims, _read)
