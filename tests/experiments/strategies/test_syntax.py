from __future__ import annotations

import random
from pathlib import Path

import pytest

from runtime_matrix.experiments.bundled.make_data import DATA_DIR
from runtime_matrix.experiments.problems.loading import Problem, load
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.strategies.damage import DAMAGES, damaged
from runtime_matrix.experiments.strategies.syntax import is_valid, repaired

HEAD = 'def f(x):\n    """Do it."""\n'
BODY = "    if x:\n        return [1, 2]\n    return 3\n"
ALWAYS = ("fenced", "closed fence", "first line moved", "dedented", "trailing prose")


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{BODY}```\n",
        f"Here it is:\n\n```\n{BODY}```\n\nIt doesn't fail.\n",
        f"{BODY}```\n\nThe end of it.\n",
        "if x:\n        return [1, 2]\n    return 3\n",
        "if x:\n    return [1, 2]\nreturn 3\n",
        "      if x:\n        return [1, 2]\n    return 3\n",
        "    if x\n        return [1, 2]\n    return 3\n",
        "    if x:\n        return [1, 2\n    return 3\n",
        f"{BODY}It doesn't take texts.\n",
    ],
)
def test_a_repaired_body_is_the_body(text: str) -> None:
    assert repaired(text, HEAD) == BODY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    return 'a", "    return 'a'\n"),
        ("    x = len(set(x", "    x = len(set(x))\n"),
        ("    while len(x:\n        x = x[1:]\n    return x\n", "    while len(x):\n        x = x[1:]\n    return x\n"),
        ("    return x)\n", "    return x\n"),
        ("    x = 1\n    return x +", "    x = 1\n"),
        ("    x = [n for n in", "    x = [n for n in"),  # nothing valid to keep
        ("I do not know.", "I do not know."),
        ("\tif x:\n\t\treturn 1\n\treturn 3", "    if x:\n        return 1\n    return 3\n"),  # spaces in the head
        ("", ""),
    ],
)
def test_repairs(text: str, expected: str) -> None:
    assert repaired(text, HEAD) == expected


def test_a_whole_function_is_indented_by_nothing() -> None:
    code = "def f(x):\n    return x\n"
    assert repaired(f"```\n{code}```", "") == code
    assert repaired(f"  {code}", "") == code


def test_what_is_deep_or_has_zero_bytes_ends() -> None:
    for text in ("(" * 5000, "    x = '\0'\n", "[" * 300 + "]" * 300):
        assert isinstance(repaired(text, HEAD), str)


def test_nothing_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    repaired("print('run')\n    print('run')\n", "print('run')\n")
    assert capsys.readouterr().out == ""


def test_damage_depends_on_the_seed_alone() -> None:
    kinds = set()
    for seed in range(60):
        kind, text = damaged(BODY, seed)
        assert (kind, text) == damaged(BODY, seed)
        assert text != BODY
        kinds.add(kind)
    assert kinds == set(DAMAGES)


def test_references_are_left_as_they_are(data_folder: Path) -> None:
    for problem in (*load(DATA_DIR / "code.jsonl"), *load(data_folder / "humaneval" / "HumanEval.jsonl.gz")):
        assert repaired(str(problem.reference), problem.head) == problem.reference


def test_damaged_references_pass_again() -> None:
    """A bracket may be missed in the midst of a line, and what is truncated is lost: those are fewer."""
    problems = load(DATA_DIR / "code.jsonl", 10)
    passed: dict[str, list[bool]] = {}
    with Pool(2) as pool:
        verdicts = [
            (kind, pool.submit(program))
            for kind in DAMAGES
            for problem in problems
            if (program := _repaired_program(problem, kind)) is not None
        ]
        for kind, verdict in verdicts:
            passed.setdefault(kind, []).append(verdict.result().passed)
    assert all(all(passed[kind]) for kind in ALWAYS)
    assert sum(passed["missing bracket"]) >= 8


def _repaired_program(problem: Problem, kind: str) -> Program | None:
    text = DAMAGES[kind](str(problem.reference), random.Random(f"{problem.id}/{kind}"))
    if text is None:
        return None
    assert kind == "truncated" or not is_valid(problem.head + text)
    code = repaired(text, problem.head)
    assert is_valid(problem.head + code)
    return Program(problem.head + code, problem.test, problem.entry_point, problem.calls_check)
