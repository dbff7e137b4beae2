from __future__ import annotations

import random
from pathlib import Path

import pytest

from runtime_matrix.experiments.bundled.texts import programs
from runtime_matrix.experiments.problems.loading import load
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.strategies.examples import Example, as_test, examples


def prompt(docstring: str, parameters: str = "x") -> str:
    return f'def f({parameters}):\n    """Do it.\n{docstring}\n    """\n'


@pytest.mark.parametrize(
    ("docstring", "call", "expected"),
    [
        ("    >>> f(3)\n    4", "f(3)", "4"),
        ("    >>> f([1,\n    ... 2])\n    [3,\n     4]", "f([1, 2])", "[3, 4]"),
        ("    >>> f([])\n    >>> f(2)\n    None", "f([])", "None"),
        ("    >>> round(f([1, 2]), 2) # a root\n    -0.5", "round(f([1, 2]), 2)", "-0.5"),
        ("    >>> f(3) == 4", "f(3)", "4"),
        ("    f(3) == 4", "f(3)", "4"),
        ("    * f([2, 4]) => [4, 2]", "f([2, 4])", "[4, 2]"),
        ("    f('a b') ==> ('a', 'b')", "f('a b')", "('a', 'b')"),
        ("    f(3)==>true", "f(3)", "True"),
        ("    f(3) ➞ False", "f(3)", "False"),
        ("    f(3) -> 19 - 5 - 6 = 8", "f(3)", "8"),
        ("    f(3) = 4", "f(3)", "4"),
        ("    f(')') returns '('", "f(')')", "'('"),
        ("    f(3) should return 4.", "f(3)", "4"),
        ("    f(15)   # returns 'db'", "f(15)", "'db'"),
        ("    f(1) # => 'No' (it starts with a digit)", "f(1)", "'No'"),
        ("    For f(3), the output would be 4", "f(3)", "4"),
        ("    For x = [1, 2] the output should be 10", "f([1, 2])", "10"),
        ('    For x = 3, the sum is 6 the output should be "110".', "f(3)", "'110'"),
        ("    Input: [4, 2]\n    Output: [2, 1]", "f([4, 2])", "[2, 1]"),
        ("    assert f(3) == 4", "f(3)", "4"),
        ("    assert f(3) == 4, 'three'", "f(3)", "4"),
    ],
)
def test_notations(docstring: str, call: str, expected: str) -> None:
    assert examples(prompt(docstring), "f")[0] == Example(call, expected)


def test_inputs_of_several_parameters() -> None:
    shown = prompt(
        "    Input:\n        a : [[0, 1]]\n        b : 2\n    Output: 6\n\n    Input: a = [], b = 3\n    Output: 0",
        "a, b",
    )
    assert examples(shown, "f") == [Example("f([[0, 1]], 2)", "6"), Example("f([], 3)", "0")]
    assert examples(prompt("    Input: 3\n    Output: 4", "a, b"), "f") == []


@pytest.mark.parametrize(
    "docstring",
    [
        "    f(abc) == 4",
        "    f(n) = f(n - 1) + 1",
        "    f(3) == 4 or 5",
        '    f(3) == ""ab"',
        "    f(3) == (4)",  # a tuple, or a number
        "    other(3) == 4",
        "    xf(3) == 4",
        "    f(3 == 4",
        "    f(__import__('os').system('true')) == 0",
        "    >>> f(3)\n    <object>",
        "    For y = 3 no output is told",
    ],
)
def test_what_is_no_example(docstring: str) -> None:
    assert examples(prompt(docstring), "f") == []


def test_a_recurrence_is_no_example() -> None:
    assert examples(prompt("    f(1) = 3\n    f(2) = 1 + (2 / 2) = 2\n    f(3) = [1, 3]"), "f") == [
        Example("f(3)", "[1, 3]")
    ]


def test_arguments_are_values() -> None:
    first, second = examples(prompt("    >>> f([1], 'a')\n    2\n    >>> round(f(3))\n    4"), "f")
    assert first.arguments == ([1], "a")
    assert second.arguments is None
    assert as_test([first, second]) == "assert f([1], 'a') == 2\nassert round(f(3)) == 4\n"


def test_the_examples_that_bundled_docstrings_show() -> None:
    rng = random.Random(0)
    for _ in range(50):
        problem, told = programs._telling(rng)
        calls = [Example(f"{problem.name}({argument!r})", repr(result)) for argument, result in told]
        assert examples(programs.shown(problem, told), problem.name) == calls


@pytest.mark.parametrize(
    ("file", "least", "among"), [("humaneval/HumanEval.jsonl.gz", 155, 164), ("mbpp/mbpp.jsonl", 923, 974)]
)
def test_how_many_prompts_show_examples(data_folder: Path, file: str, least: int, among: int) -> None:
    problems = load(data_folder / file)
    with_examples = sum(bool(examples(problem.prompt, problem.entry_point)) for problem in problems)
    assert len(problems) == among
    assert with_examples >= least


def test_references_pass_the_examples_of_their_prompts(data_folder: Path) -> None:
    """Two prompts of HumanEval tell what their references do not do: 47 and 116."""
    problems = load(data_folder / "humaneval" / "HumanEval.jsonl.gz")
    with Pool(2) as pool:
        verdicts = {
            problem.id: pool.submit(
                Program(
                    problem.head + str(problem.reference),
                    as_test(examples(problem.prompt, problem.entry_point)),
                    problem.entry_point,
                    calls_check=False,
                )
            )
            for problem in problems
        }
        failed = {name for name, verdict in verdicts.items() if not verdict.result().passed}
    assert failed <= {"HumanEval/47", "HumanEval/116"}
