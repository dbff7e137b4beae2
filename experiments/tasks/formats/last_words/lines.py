"""LAMBADA as its authors published it (Paperno et al. 2016, arXiv 1606.06031): one passage per line of a text file."""

from __future__ import annotations

from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format
from runtime_matrix.experiments.tasks.formats.last_words.passage import Passage, passage

TITLE = "a text file with one passage per line"


def _read(content: Content) -> list[Passage]:
    numbered = enumerate(content.text.split("\n"), start=1)
    return [passage(str(number), line, f"{content.path}, line {number}") for number, line in numbered if line.strip()]


FORMAT = Format("lines", TITLE, lambda content: not content.is_folder and not content.is_json, _read)
