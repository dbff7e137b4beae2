"""Records of this program: a cell's folder, whose items files have one line per item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.paired_outputs import read_items, score_of, scored
from runtime_matrix.experiments.answers.task_answers import (
    AnswerFormat,
    Collected,
    TaskAnswers,
    chosen,
    digest,
    read_text,
)
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.migration import read_record

_RECORD = "record.json"


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path] if path.name == _RECORD else []
    return [path / _RECORD] if (path / _RECORD).is_file() else []


def _read(path: Path, metric: str | None) -> list[TaskAnswers]:
    try:
        record = read_record(json.loads(read_text(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or of another program: {error}") from error
    answers = []
    for name, entry in record.entries().items():
        if not entry.items_file or entry.why_unscored or not score_of(name).metric:
            continue
        answers.append(_benchmark(path.parent / Path(entry.items_file).name, name, metric))
    if not answers:
        raise UserError(f"{path} has no benchmark whose items are scored")
    return answers


def _benchmark(path: Path, name: str, metric: str | None) -> TaskAnswers:
    score = score_of(name)
    figure = score.kind.figure(score.item_field)
    chosen(path, metric, [figure])
    try:
        items = read_items(path, name)
        scores = scored(name, items)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    collected = Collected(path, name, figure)
    for item, identity, value, cluster in zip(items, scores.ids, scores.scores, scores.clusters, strict=True):
        collected.add(identity, value, digest(item.prompt, item.answer), cluster)
    return collected.answers()


FORMAT = AnswerFormat("runtime-matrix", "a cell's folder of this program", _files, _read)
