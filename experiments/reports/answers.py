"""The answers of recorded cells, item by item, for files of other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.cells.identity import cell_names
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record, typed
from runtime_matrix.experiments.tasks.registry import scores


class Answer(Struct, frozen=True, kw_only=True):
    """One line of an items file; which fields are set depends on the benchmark."""

    id: str | int
    sample: int | None = None  # of a problem with several samples
    task: str | None = None  # of lm-eval
    prompt: str | None = None
    question: str | None = None
    choices: list[str] | None = None
    answer: int | None = None  # index of the right choice
    answers: list[str] = []  # the accepted ones
    references: list[str] = []  # reference summaries
    predicted: int | None = None
    text: str | None = None
    logprobs: list[float] | None = None
    samples: list[JsonObject] = []  # of lm-eval, as its samples file has them
    score: float = 0.0  # of the field that the benchmark's `Score` names

    @property
    def input(self) -> str:
        """Return the prompt, or the question where the prompt is not recorded."""
        return self.prompt or self.question or ""

    @property
    def target(self) -> str:
        """Return the right answer; empty where it is a test, as for programs."""
        if self.answer is not None:
            return self.choices[self.answer] if self.choices else str(self.answer)
        if self.samples:
            return str(self.samples[0].get("target", ""))
        return next(iter(self.answers or self.references), "")

    @property
    def output(self) -> str:
        """Return the answer of the cell."""
        if self.predicted is not None:
            return self.choices[self.predicted] if self.choices else str(self.predicted)
        return self.text or ""


@dataclass(frozen=True)
class AnsweredTask:
    """The answers of a cell to one task."""

    record: Record
    name: str  # of the benchmark, or of lm-eval's task
    metric: str
    answers: list[Answer]


def answered_tasks(results: Sequence[Result]) -> Iterator[AnsweredTask]:
    """Yield the answers of the latest record of each cell, task by task. UserError for items that cannot be read."""
    names = cell_names([result.record for result in results])
    for result in dict(zip(names, results, strict=True)).values():
        for benchmark, entry in result.record.entries().items():
            score = scores().get(benchmark)
            if score is None or not score.kind.has_answers or entry.items_file is None or entry.why_unscored:
                continue
            metric = "acc" if score.item_field == "is_right" else score.item_field
            by_task: dict[str, list[Answer]] = {}
            for answer in _read(result.folder / entry.items_file, score.item_field):
                by_task.setdefault(answer.task or benchmark, []).append(answer)
            for name, answers in by_task.items():
                yield AnsweredTask(result.record, name, metric, answers)


def _read(path: Path, field: str) -> list[Answer]:
    try:
        with path.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        return [typed({**line, "score": float(line[field])}, Answer) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}; measure the cell again") from error
