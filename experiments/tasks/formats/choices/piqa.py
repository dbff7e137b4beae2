"""PIQA (Bisk et al. 2020, arXiv 1911.11641): JSON lines of goal, sol1 and sol2, with labels in a file beside them.

NAME.jsonl has its labels in NAME-labels.lst, one 0 or 1 per line. Rows as JSON, with a field `label`, are read too.
The test set has no labels.
"""

from __future__ import annotations

from pathlib import Path

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.choices.question import Question, ReadQuestions, index_of
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "PIQA's JSON lines"
_SOLUTIONS = ("sol1", "sol2")
_LABELS = ("0", "1")
_HIDDEN = (None, -1, "")  # the label of a test question


def _claims(content: Content) -> bool:
    return "goal" in content.first and not set(_SOLUTIONS).isdisjoint(content.first)


def _read(content: Content) -> ReadQuestions:
    items = list(content.items())
    beside = _labels(content.path, len(items))
    questions = []
    for number, (where, item) in enumerate(items):
        label = beside[number] if beside is not None else item.get("label")
        questions.append(
            Question(
                id=str(item.get("id", number)),
                subject=content.path.stem,
                text=text_field(item, "goal", where, TITLE),
                choices=tuple(text_field(item, name, where, TITLE) for name in _SOLUTIONS),
                answer=None if label in _HIDDEN else index_of(label, _LABELS, where),
                labels=_LABELS,
            )
        )
    return ReadQuestions({content.path.stem: questions})


def _labels(path: Path, items: int) -> list[str] | None:
    """Return the labels of the file beside the questions; None if there is none."""
    file = path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.jsonl')}-labels.lst")
    if not file.is_file():
        return None
    labels = data_files.read_text(file, "one 0 or 1 per line").split()
    if len(labels) != items:
        raise UserError(
            f"{file} has {len(labels)} labels, but {path.name} has {items} questions: give both of one split"
        )
    for number, label in enumerate(labels, start=1):
        if label not in _LABELS:
            raise UserError(f"{file}, line {number}: a label must be 0 or 1, as in PIQA; found {label!r}")
    return labels


FORMAT = Format("piqa", TITLE, _claims, _read)
