"""Programming problems of any known format, and given solutions. Does not run programs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems import formats
from runtime_matrix.experiments.problems.formats.format import WANTED, Problem, ProblemFormat

__all__ = ["Problem", "load", "load_solutions", "references"]


def load(path: Path, limit: int | None = None, fields: Mapping[str, str] | None = None) -> list[Problem]:
    """Read problems; UserError gives the line and the missing or unusable field."""
    problems = [_format(item).read(where, item) for where, item in data_files.json_lines(path, WANTED, fields)]
    if not problems:
        raise UserError(f"{path} holds no problem; give {WANTED}")
    _check_added_tests(problems, path)
    data_files.check_unique((problem.id for problem in problems), path)
    return problems[:limit]


def _check_added_tests(problems: Sequence[Problem], path: Path) -> None:
    """Raise UserError if only some problems have added tests, or if there are none where there should be."""
    without = [problem.id for problem in problems if problem.suite is None]
    if 0 < len(without) < len(problems):
        raise UserError(f"{path}: {without[0]} has no plus_input, but others have; give the suites one by one")
    if not without and not any(problem.suite.plus for problem in problems if problem.suite is not None):
        raise UserError(f"{path}: no problem has an added test (plus_input); give HumanEval.jsonl or MBPP instead")


def load_solutions(path: Path, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Read completions from JSON lines of `task_id` and `completion`, any number per problem.

    Raises UserError for an unknown task_id and for a problem without a completion.
    """
    known = {problem.id for problem in problems}
    completions: dict[str, list[str]] = {}
    for where, item in data_files.json_lines(path, "JSON lines of task_id and completion"):
        if not isinstance(item.get("completion"), str):
            raise UserError(f"{where}: has no completion; give JSON lines of task_id and completion")
        name = str(item.get("task_id"))
        if name not in known:
            raise UserError(f"{where}: the task_id {name!r} is not one of the problems")
        completions.setdefault(name, []).append(item["completion"])
    missing = [problem.id for problem in problems if problem.id not in completions]
    if missing:
        raise UserError(f"{path} has no completion of {missing[0]!r} and {len(missing) - 1} other problems")
    return completions


def references(problems: Sequence[Problem], path: Path) -> dict[str, list[str]]:
    """Return each problem's reference solution; UserError if one is missing."""
    for problem in problems:
        if problem.reference is None:
            raise UserError(f"{path}: {problem.id!r} has no reference solution; use solutions=model")
    return {problem.id: [str(problem.reference)] for problem in problems}


@cache
def _formats() -> tuple[ProblemFormat, ...]:
    """Return the formats of the modules in the folder `formats`, the most specific one first."""
    names = [module.name for module in pkgutil.iter_modules(formats.__path__)]
    modules = [importlib.import_module(f"{formats.__name__}.{name}") for name in names]
    known: list[ProblemFormat] = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return tuple(sorted(known, key=lambda known: -known.priority))


def _format(item: JsonObject) -> ProblemFormat:
    return next(known for known in _formats() if known.claims(item))
