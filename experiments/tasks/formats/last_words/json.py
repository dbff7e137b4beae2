"""LAMBADA as OpenAI published it, and as rows of the Hub: JSON objects with `text`."""

from __future__ import annotations

from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field
from runtime_matrix.experiments.tasks.formats.last_words.passage import Passage, passage

TITLE = "LAMBADA's JSON lines"


def _read(content: Content) -> list[Passage]:
    return [
        passage(str(number), text_field(item, "text", where, TITLE), where)
        for number, (where, item) in enumerate(content.items())
    ]


FORMAT = Format("json", TITLE, lambda content: content.is_json, _read)
