"""Which solved problems are near, and which would give a problem away."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.experiments.bundled.make_data import DATA_DIR
from runtime_matrix.experiments.bundled.texts import functions, programs
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import Problem, load
from runtime_matrix.experiments.problems.shown_tests import show_tests
from runtime_matrix.experiments.strategies.examples import examples
from runtime_matrix.experiments.strategies.forms import solved_before
from runtime_matrix.experiments.strategies.retrieval import Retriever, retriever
from runtime_matrix.experiments.strategies.retrieve import STRATEGY, RetrieveConfig
from runtime_matrix.experiments.strategies.strategy import Generate, Request, Visible
from tests.experiments.strategies.scripted import solve, world

CONFIG = RetrieveConfig(plain_samples=2, plain_temperature=0.8, corpus="bundled", neighbours=2, contained="refuse")


def problem(name: str, docstring: str, solution: str = "    return 1\n") -> Problem:
    prompt = f'def f(x):\n    """{docstring}"""\n'
    return Problem(name, prompt, prompt, "f", "", True, solution)


def visible(one: Problem) -> Visible:
    return Visible(one.id, one.prompt, one.head, one.entry_point, tuple(examples(one.prompt, one.entry_point)), ())


SOLVED = [
    problem("sum", "Return the sum of the numbers."),
    problem("sorted", "Sort the letters, then return the text."),
    problem("largest", "Return the largest of the numbers."),
]


def test_the_nearest_stand_first() -> None:
    found = Retriever(SOLVED).neighbours(visible(problem("new", "Sort the letters, then return their count.")), 2)
    assert found.problems[0].id == "sorted"
    assert len(found.problems) == 2
    assert found.dropped == 0


def test_a_corpus_smaller_than_asked_gives_all() -> None:
    assert len(Retriever(SOLVED).neighbours(visible(problem("new", "Something else.")), 9).problems) == 3


@pytest.mark.parametrize(
    "given",
    [
        SOLVED[0],
        replace(SOLVED[0], prompt=SOLVED[0].prompt.replace("    ", "\t")),
        problem("other name", "Return the sum of the numbers.\n\n    >>> f([1])\n    1\n    "),
    ],
)
def test_the_problem_itself_is_contained_and_no_neighbour(given: Problem) -> None:
    known = Retriever(SOLVED)
    assert known.contained([visible(given)]) == [given.id]
    found = known.neighbours(visible(given), 3)
    assert [one.id for one in found.problems if one.id == "sum"] == []
    assert found.dropped == 1


def test_a_problem_with_the_same_examples_is_contained() -> None:
    shown = "    >>> f([1])\n    1\n    >>> f([2, 3])\n    5\n    "
    known = Retriever([problem("a", f"Add them up.\n\n{shown}")])
    given = visible(problem("b", f"The total.\n\n{shown}"))
    assert known.contained([given]) == ["b"]
    assert known.neighbours(given, 1).problems == ()


def test_a_problem_in_almost_the_same_words_is_dropped() -> None:
    long = "Keep the even numbers, then double each, then sort them, then add three to each of them, then return the "
    known = Retriever([problem("a", f"{long} sum."), problem("b", "Return the numbers.")])
    given = visible(problem("new", f"{long} sums."))
    assert known.contained([given]) == []
    found = known.neighbours(given, 1)
    assert ([one.id for one in found.problems], found.dropped) == (["b"], 1)


def test_the_bundled_corpus_has_no_test_problem_shown_or_not() -> None:
    problems = load(DATA_DIR / "code.jsonl")
    for given in (problems, show_tests(problems, 2)):
        assert retriever("bundled").contained([visible(one) for one in given]) == []
    assert len(Retriever(problems).contained([visible(one) for one in show_tests(problems, 2)])) == 160


def test_the_bundled_corpus_has_none_of_the_benchmarks_chains() -> None:
    chains = {one.chain for one in functions.benchmark(0)}
    solved = programs.solved(0)
    assert len(solved) == programs.SOLVED_PROBLEMS
    assert not any(one.is_held_out or one.chain in chains for one in solved)


def test_the_test_problems_as_corpus_are_refused_in_one_line() -> None:
    problems = [visible(one) for one in load(DATA_DIR / "code.jsonl")]
    given = replace(CONFIG, corpus=str(DATA_DIR / "code.jsonl"))
    with pytest.raises(UserError, match="contains 160 of the test problems, the first is 'bundled/0'"):
        STRATEGY.prepare(given, problems)
    STRATEGY.prepare(replace(given, contained="drop"), problems)
    STRATEGY.prepare(CONFIG, problems)


def test_what_is_no_corpus_is_one_line(tmp_path: Path) -> None:
    without = tmp_path / "without.jsonl"
    without.write_text('{"task_id": 1, "text": "Add.", "test_list": ["assert f(1) == 2"]}\n')
    with pytest.raises(UserError, match="has no solutions"):
        retriever(str(without))
    with pytest.raises(UserError, match="cannot be read"):
        retriever(str(tmp_path / "missing.jsonl"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(UserError, match=r"runtime-matrix\[strategies\]"):
        Retriever(SOLVED)


def test_neighbours_stand_before_the_prompt_the_nearest_last() -> None:
    log: list[Request] = []
    given = visible(load(DATA_DIR / "code.jsonl", 1)[0])
    answer = solve(STRATEGY, CONFIG, world(["good"], log=log), given)
    (request,) = log
    assert isinstance(request, Generate)
    assert request.prompt.endswith(f"\n\n{given.prompt}")
    assert request.prompt.count("def ") == 3
    nearest, second = retriever("bundled").neighbours(given, 2).problems
    assert request.prompt == solved_before(given, [second, nearest])
    assert answer.figures["added_characters"] == len(request.prompt) - len(given.prompt)


def test_mbpp_is_a_corpus_for_humaneval(data_folder: Path) -> None:
    problems = [visible(one) for one in load(data_folder / "humaneval" / "HumanEval.jsonl.gz")]
    known = retriever(str(data_folder / "mbpp" / "mbpp.jsonl"))
    assert known.contained(problems) == []
    assert all(len(known.neighbours(one, 2).problems) == 2 for one in problems[:20])
