"""Read answers from a file or folder of any known format."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.answers import formats as folder
from runtime_matrix.experiments.answers.task_answers import AnswerFormat, TaskAnswers
from runtime_matrix.experiments.config.errors import UserError, did_you_mean


@cache
def formats() -> tuple[AnswerFormat, ...]:
    """Return the formats of the modules in the folder `formats`. TypeError for a module without FORMAT."""
    found = []
    for module in pkgutil.iter_modules(folder.__path__):
        answer_format = getattr(importlib.import_module(f"{folder.__name__}.{module.name}"), "FORMAT", None)
        if not isinstance(answer_format, AnswerFormat):
            raise TypeError(f"{folder.__name__}.{module.name} has no FORMAT")
        found.append(answer_format)
    return tuple(found)


def read_answers(path: Path, metric: str | None = None, tasks: Sequence[str] = ()) -> list[TaskAnswers]:
    """Return the answers at a path by task; `tasks` chooses some of them.

    UserError for a path without answers, a damaged file, an unknown task or metric, or a task in two files.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist")
    try:
        matches = [(answer_format, files) for answer_format in formats() if (files := answer_format.files(path))]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not matches:
        known = "; ".join(answer_format.summary for answer_format in formats())
        raise UserError(f"{path} holds no answers in a known format ({known})")
    if len(matches) > 1:
        several = " and ".join(answer_format.name for answer_format, _ in matches)
        raise UserError(f"{path} holds files of {several}: name the file of one")
    answer_format, files = matches[0]
    answers = [task for file in files for task in answer_format.read(file, metric)]
    names = [task.task for task in answers]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path} holds several files of {repeated}: name one of them")
    unknown = next((name for name in tasks if name not in names), None)
    if unknown is not None:
        raise UserError(f"{path} has no task {unknown}{did_you_mean(unknown, names)}")
    return [task for task in answers if not tasks or task.task in tasks]
