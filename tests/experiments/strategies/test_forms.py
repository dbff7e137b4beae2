"""Prompts in the forms that the bundled model has learned."""

from __future__ import annotations

import random
from pathlib import Path

from runtime_matrix.experiments.bundled.make_data import DATA_DIR
from runtime_matrix.experiments.bundled.texts import functions, programs
from runtime_matrix.experiments.problems.loading import load
from runtime_matrix.experiments.problems.shown_tests import show_tests
from runtime_matrix.experiments.strategies.forms import asserts_prompt, repair_prompt, solved_before, without_doctest
from runtime_matrix.experiments.strategies.strategy import Solved, Visible
from runtime_matrix.experiments.strategies.syntax import is_valid


def test_the_forms_are_those_of_the_training_text() -> None:
    one, last = programs.solved(0)[:2]
    failure = "f(1): expected 2, got 3"
    wrong = functions.damaged(one, random.Random(0))
    assert repair_prompt(one.prompt, wrong, failure) == programs.repair_prompt(one, wrong, failure)
    assert asserts_prompt(one.prompt) == programs.asserts_prompt(one)
    visible = Visible("t", last.prompt, last.prompt, last.name, (), ())
    told = solved_before(visible, [Solved("s", one.prompt, one.solution)])
    assert told == f"{one.prompt}{one.solution}\n{last.prompt}"  # as `programs.solved_before` writes it


def test_examples_are_taken_out_as_they_were_put_in() -> None:
    problems = load(DATA_DIR / "code.jsonl")
    assert [without_doctest(one.prompt) for one in show_tests(problems, 2)] == [one.prompt for one in problems]
    assert [without_doctest(one.prompt) for one in problems] == [one.prompt for one in problems]


def test_docstrings_of_humaneval_stay_valid(data_folder: Path) -> None:
    problems = load(data_folder / "humaneval" / "HumanEval.jsonl.gz")
    programs = [without_doctest(problem.prompt) + str(problem.reference) for problem in problems]
    assert [problem.id for problem, code in zip(problems, programs, strict=True) if not is_valid(code)] == []
