"""Results of EvalPlus: `*_eval_results.json`, with the base tests and, where they ran, the extra tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, field

from runtime_matrix.experiments.answers.task_answers import (
    AnswerFormat,
    Collected,
    TaskAnswers,
    chosen,
    decoded,
    read_text,
)
from runtime_matrix.experiments.config.errors import UserError

_SUFFIX = "_eval_results.json"
_PASS = "pass"


class _Program(Struct, frozen=True, kw_only=True):
    base_status: str
    plus_status: str | None = None


class _Results(Struct, frozen=True, kw_only=True):
    hash: str | None = None  # of the problems
    problems: dict[str, list[_Program]] = field(name="eval")


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path] if path.name.endswith(_SUFFIX) else []
    return sorted(path.glob(f"*{_SUFFIX}"))


def _read(path: Path, metric: str | None) -> list[TaskAnswers]:
    results = decoded(path, read_text(path), _Results)
    programs = [program for samples in results.problems.values() for program in samples]
    if not programs:
        raise UserError(f"{path} holds no program")
    has_plus = all(program.plus_status is not None for program in programs)
    name = chosen(path, metric, ["plus", "base"] if has_plus else ["base"])
    task = next(iter(results.problems)).partition("/")[0]
    collected = Collected(path, task, name)
    for problem, samples in results.problems.items():
        for number, program in enumerate(samples):
            status = program.plus_status if name == "plus" else program.base_status
            item = problem if number == 0 else f"{problem} (sample {number})"
            # A program passes the extra tests only if it passes the base tests, as in EvalPlus's own pass@k.
            is_right = status == _PASS and program.base_status == _PASS
            collected.add(item, float(is_right), results.hash, problem)
    return [collected.answers()]


FORMAT = AnswerFormat("evalplus", "results of EvalPlus, *_eval_results.json", _files, _read)
