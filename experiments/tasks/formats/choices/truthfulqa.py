"""TruthfulQA (Lin et al. 2022, arXiv 2109.07958) with choices: mc_task.json, TruthfulQA.csv, and the Hub's rows.

MC1 has one right choice, MC2 several. From the CSV both are made as its authors' script makes them: MC1 of the best
answer and the incorrect ones, MC2 of all correct and incorrect ones, each with a full stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.choices.question import Question, ReadQuestions, Truths, grouped
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "TruthfulQA's mc_task.json or CSV"
_TARGETS = ("mc1_targets", "mc2_targets")
_BEST, _CORRECT, _INCORRECT = "Best Answer", "Correct Answers", "Incorrect Answers"


def _claims(content: Content) -> bool:
    return not set(_TARGETS).isdisjoint(content.first) or {_BEST, _CORRECT} <= set(content.header)


def _read(content: Content) -> ReadQuestions:
    questions = list(_of_json(content) if content.is_json else _of_csv(content))
    return ReadQuestions(grouped(questions), normalise="none")


def _of_json(content: Content) -> Iterator[Question]:
    for number, (where, item) in enumerate(content.items()):
        text = text_field(item, "question", where, TITLE)
        (one, several) = (_targets(item, name, where) for name in _TARGETS)
        if sum(one.is_true) != 1:
            raise UserError(f"{where}: mc1_targets must have one true answer; found {sum(one.is_true)}")
        category = str(item.get("category") or content.path.stem)
        yield Question(str(number), category, text, one.answers, one.is_true.index(True), truths=several)


def _targets(item: JsonObject, name: str, where: str) -> Truths:
    """Return the answers with their labels: an object of answers, or the Hub's object of two lists."""
    targets = item.get(name)
    pairs: list[tuple[Any, Any]] = []
    if isinstance(targets, Mapping) and set(targets) == {"choices", "labels"}:
        choices, labels = targets["choices"], targets["labels"]
        if isinstance(choices, Sequence) and isinstance(labels, Sequence) and len(choices) == len(labels):
            pairs = list(zip(choices, labels, strict=True))
    elif isinstance(targets, Mapping):
        pairs = list(targets.items())
    if len(pairs) < 2 or not all(isinstance(answer, str) and label in (0, 1) for answer, label in pairs):
        raise UserError(f"{where}: {name} must map answers to 1 or 0, as in {TITLE}; found {str(targets)[:60]}")
    truths = Truths(tuple(answer for answer, _ in pairs), tuple(bool(label) for _, label in pairs))
    if not any(truths.is_true) or all(truths.is_true):
        raise UserError(f"{where}: {name} must have true and false answers; found {sum(truths.is_true)} true ones")
    return truths


def _of_csv(content: Content) -> Iterator[Question]:
    missing = {"Question", _INCORRECT} - set(content.header)
    if missing:
        raise UserError(f"{content.path}: no column {', '.join(sorted(missing))}, as in {TITLE}")
    for number, (where, row) in enumerate(content.records()):
        best = _closed(text_field(row, _BEST, where, TITLE))
        true, false = (_answers(text_field(row, name, where, TITLE)) for name in (_CORRECT, _INCORRECT))
        several = Truths((*true, *false), (True,) * len(true) + (False,) * len(false))
        text, category = text_field(row, "Question", where, TITLE), row.get("Category") or content.path.stem
        yield Question(str(number), category, text, (best, *false), 0, truths=several)


def _answers(listed: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_closed(answer) for answer in listed.split(";") if answer.strip()))


def _closed(answer: str) -> str:
    answer = answer.strip()
    return answer if answer.endswith(".") else f"{answer}."


FORMAT = Format("truthfulqa", TITLE, _claims, _read)
