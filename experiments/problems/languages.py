"""The language of programming problems, and whether their programs can run here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.formats.format import Problem
from runtime_matrix.experiments.sandbox.interpreters import interpreter, missing_module, unsupported


def language_of(problems: Sequence[Problem]) -> str | None:
    """Return the language that all problems share; None for Python."""
    return problems[0].language


def check_language(path: Path, problems: Sequence[Problem]) -> None:
    """Raise UserError for a file of several languages, and for an interpreter or module that is not installed.

    A language that the sandbox never runs is no mistake: its cells are unsupported.
    """
    first = problems[0]
    for problem in problems:
        if (problem.language, problem.stop) != (first.language, first.stop):
            raise UserError(
                f"{path}: {problem.id} has another language or other stop_tokens than {first.id}; give a file for each"
            )
    language = first.language
    if language is None or unsupported(language) is not None:
        return
    found = interpreter(language)
    for problem in problems:
        if (module := missing_module(found, problem.test)) is not None:
            raise UserError(
                f"{path}: the tests of {problem.id} need {found.language.title}'s {module}, which {found.path} cannot "
                f"load: install it for all users{_advice(module)}"
            )


def _advice(module: str) -> str:
    return ", as with Debian's libtest-deep-perl" if module == "Test::Deep" else ""
