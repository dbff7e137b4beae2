"""Tests moved into the prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import Problem, load
from runtime_matrix.experiments.problems.shown_tests import show_tests, shows_all_tests
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.strategies.examples import examples
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA

PROMPT = 'def double(x):\n    """Double it."""\n'
TEST = (
    "def check(candidate):\n    n = 3\n    assert candidate(0) == 0\n    assert candidate([1, 2]) == [1, 2, 1, 2]\n"
    "    assert candidate('ab') == 'abab'\n    assert candidate(n) == 6\n"
)
PROBLEM = Problem("t/0", PROMPT, PROMPT, "double", TEST, True, "    return 2 * x\n")
MBPP = Problem(
    "1",
    '"""\nDouble it.\nassert double(2) == 4\nassert double(31) == 62\nassert double(5) == 10\n"""\n',
    "",
    "double",
    "\nassert double(2) == 4\nassert double(31) == 62\nassert double(5) == 10\n",
    False,
    "def double(x):\n    return 2 * x\n",
)


def test_the_longest_short_tests_become_examples_and_judge_no_more() -> None:
    (problem,) = show_tests([PROBLEM], 2)
    assert problem.prompt == (
        'def double(x):\n    """Double it.\n\n    >>> double([1, 2])\n    [1, 2, 1, 2]\n'
        "    >>> double('ab')\n    'abab'\n    \"\"\"\n"
    )
    assert problem.head == problem.prompt
    assert "candidate([1, 2])" not in problem.test
    assert "candidate(0)" in problem.test
    assert "candidate(n) == 6" in problem.test  # it is not told in literals
    assert [example.call for example in examples(problem.prompt, "double")] == ["double([1, 2])", "double('ab')"]


def test_mbpps_prompt_keeps_the_shown_asserts_only() -> None:
    (problem,) = show_tests([MBPP], 1)
    assert problem.prompt == '"""\nDouble it.\nassert double(2) == 4\n"""\n'
    assert problem.test.split("\n")[:2] == ["assert double(31) == 62", "assert double(5) == 10"]


def test_one_test_must_remain_to_judge_by() -> None:
    with pytest.raises(UserError, match="shown_tests=3: 1 has 3 tests short enough to show, and one must remain"):
        show_tests([MBPP], 3)
    with pytest.raises(UserError, match="shown_tests=4: t/0 has 3 tests short enough"):
        show_tests([PROBLEM], 4)


@pytest.mark.parametrize("name", ["bundled", "mbpp/mbpp.jsonl"])
def test_references_pass_the_tests_that_remain_and_those_that_are_shown(name: str, data_folder: Path) -> None:
    path = BUNDLED_DATA / "code.jsonl" if name == "bundled" else data_folder / name
    problems = load(path)[:20]
    shown = show_tests(problems, 1)
    with Pool(2) as pool:
        futures = []
        for problem in shown:
            code = problem.head + str(problem.reference)
            visible = "".join(f"{example.test}\n" for example in examples(problem.prompt, problem.entry_point))
            for test, calls_check in ((problem.test, problem.calls_check), (visible, False)):
                futures.append(pool.submit(Program(code, test, problem.entry_point, calls_check, problem.helpers)))
        assert [future.result().reason for future in futures if not future.result().passed] == []


def test_a_prompt_that_shows_all_tests_is_told() -> None:
    def shown(problem: Problem) -> list[str]:
        return [example.test for example in examples(problem.prompt, problem.entry_point)]

    assert shows_all_tests(MBPP, shown(MBPP))
    (held_out,) = show_tests([MBPP], 2)
    assert not shows_all_tests(held_out, shown(held_out))
    assert not shows_all_tests(PROBLEM, shown(PROBLEM))
