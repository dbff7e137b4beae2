"""Mutants of programs, and what a suite's tests notice of them."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.tasks import mutation
from runtime_matrix.experiments.tasks.mutants import mutants
from runtime_matrix.experiments.tasks.problem_inputs import further_inputs, inputs_of_tests
from tests.in_process import call

PROGRAM = '''def f(items: list[int], n: int = 2):
    """Return a number."""
    total = 0
    for i in range(n):
        if items[i] > 0 and not n == i:
            total += items[i] * 2
        else:
            continue
    return total
'''


def test_each_operator_makes_its_changes() -> None:
    made = mutants(PROGRAM, "", 1000, "1/f")
    assert set(Counter(mutant.kind for mutant in made)) == {
        "arithmetic", "comparison", "boolean", "constant", "index", "condition", "statement",
    }  # fmt: skip
    diffs = {mutant.diff for mutant in made}
    for expected in (
        "-            total += items[i] * 2\n+            total += items[i] // 2",
        "-            total += items[i] * 2\n+            total -= items[i] * 2",
        "-            total += items[i] * 2\n+            total += items[i + 1] * 2",
        "-            total += items[i] * 2\n+            total += items[i] * 3",
        "-            total += items[i] * 2\n+            pass",
        "-    for i in range(n):\n+    for i in range(n - 1):",
        "-        if items[i] > 0 and (not n == i):\n+        if items[i] >= 0 and (not n == i):",
        "-        if items[i] > 0 and (not n == i):\n+        if items[i] > 0 or not n == i:",
        "-        if items[i] > 0 and (not n == i):\n+        if not (items[i] > 0 and (not n == i)):",
        "-            continue\n+            pass",
        "-    return total\n+    pass",
    ):
        assert expected in diffs, expected
    assert not any(part in diff for diff in diffs for part in ("Return a number", "int + 1", "int - 1")), (
        "no annotations"
    )
    assert len({mutant.code for mutant in made}) == len(made)
    assert all(ast.unparse(ast.parse(PROGRAM)) != mutant.code for mutant in made)


def test_mutants_are_drawn_by_the_seed() -> None:
    assert mutants(PROGRAM, "", 8, "1/f") == mutants(PROGRAM, "", 8, "1/f") != mutants(PROGRAM, "", 8, "2/f")
    assert len(mutants(PROGRAM, "", 8, "1/f")) == 8
    assert mutants("def f():\n    pass\n", "", 8, "1/f") == []


def test_the_head_of_a_program_stays_as_it_is() -> None:
    head = "def helper(x):\n    return x + 1\n\n\ndef f(x):\n"
    made = mutants(head + "    return helper(x) * 2\n", head, 1000, "1/f")
    assert made
    assert all("return helper(x) * 2" in mutant.diff for mutant in made)


def problem(tmp_path: Path, **change: object) -> loading.Problem:
    item = {
        "task_id": "t/0",
        "prompt": 'def double(x):\n    """\n    >>> double(5)\n    10\n    """\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    for n in range(3):\n        candidate(n)\n",
    }
    (tmp_path / "one.jsonl").write_text(json.dumps({**item, **change}) + "\n")
    (found,) = loading.load(tmp_path / "one.jsonl")
    return found


def test_inputs_are_the_literals_of_tests_and_examples(tmp_path: Path) -> None:
    found = problem(tmp_path)
    assert inputs_of_tests(found) == [(2,), (5,)]
    further = further_inputs(found, 20, 1)
    assert further == further_inputs(found, 20, 1)
    assert all(isinstance(x, int) for (x,) in further)
    assert further_inputs(problem(tmp_path, prompt="def double(x):\n", test="def check(c):\n    c(1)\n"), 20, 1) == []


def test_a_mutant_is_equivalent_by_its_outputs() -> None:
    def outputs(*texts: str, status: str = "finished") -> Outputs:
        return Outputs(status, "", tuple(Output(text, text == "ValueError") for text in texts), 0.1, 0.1)

    reference = outputs("1", "ValueError", "3")
    assert mutation.compared(reference, outputs("1.0", "7", "3"), None) == (True, 2)
    assert mutation.compared(reference, outputs("1", "ValueError", "4"), None) == (False, 2)
    assert mutation.compared(reference, outputs("1", "ValueError", status="timeout"), None) == (False, 2)
    assert mutation.compared(reference, outputs("1", "2", "4"), outputs("null", "null", "ValueError")) == (True, 1)


WEAK = {
    "task_id": "HumanEval/901",
    "prompt": "def capped(x):\n",
    "entry_point": "capped",
    "canonical_solution": "    y = x + 0\n    return x + 1 if x < 10 else 11\n",
    "contract": "\n    assert x >= 0\n",
    "base_input": [[1]],
    "plus_input": [[0], [9], [10], [30]],
    "atol": 0,
}


def measured(folder: Path, *words: str) -> tuple[JsonObject, list[JsonObject]]:
    """Return the figures and the items of a cell that runs the benchmark alone."""
    common = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]")
    done = call(main, ["benchmark=[mutation]", *common, f"results_dir={folder / 'runs'}", *words])
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "runs").glob("*/record.json")
    (entry,) = json.loads(path.read_text())["benchmarks"]
    lines = (path.parent / entry["items_file"]).read_text().splitlines()
    return entry["figures"], [json.loads(line) for line in lines]


def test_added_tests_notice_what_base_tests_do_not(tmp_path: Path) -> None:
    wrong = {**WEAK, "task_id": "HumanEval/902", "base_input": [[30]], "plus_input": [[31]]}
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps(WEAK) + "\n" + json.dumps(wrong) + "\n")
    figures, items = measured(tmp_path, f"benchmark.mutation.data={path}", "benchmark.mutation.mutants=100")
    by_diff = {item["diff"]: item for item in items if item["problem"] == "HumanEval/901"}
    dropped = by_diff["-    y = x + 0\n+    pass"]
    assert (dropped["status"], dropped["verdict"]) == ("equivalent", "passed")
    assert dropped["inputs"] > 10
    line = "    return x + 1 if x < 10 else 11"
    noticed = by_diff[f"-{line}\n+    return x + 1 if x < 9 else 11"]
    assert noticed["status"] == "killed by added tests"
    assert noticed["reason"].startswith("plus input 1 (9): AssertionError 11 instead of 10")
    assert by_diff[f"-{line}\n+    return x - 1 if x < 10 else 11"]["status"] == "killed"
    assert by_diff[f"-{line}\n+    return x + 1 if x <= 10 else 11"]["status"] == "equivalent", "10 + 1 is 11"
    survivors = [item["diff"] for item in items if item["status"] == "survived"]
    assert f"-{line}\n+    return x - 1 if x < 10 else 11" in survivors, "the other suite never asks for less than 10"
    wrong_ones = [item for item in items if item["status"] != "equivalent"]
    killed = [item for item in wrong_ones if item["status"] == "killed"]
    assert figures["score"] == pytest.approx(len(killed) / len(wrong_ones))
    assert figures["plus_score"] == pytest.approx(1 - len(survivors) / len(wrong_ones))
    assert 0 < figures["score"] < figures["plus_score"] < 1
    assert 0 < figures["score_standard_error"] < 1
    assert figures["mutants"] == len(items)
    assert figures["equivalent_mutants"] == len(items) - len(wrong_ones)
    assert figures["programs_cpu_s"] > 0


def test_a_problem_whose_reference_fails_is_left_out_and_counted(tmp_path: Path) -> None:
    right = {
        "task_id": "t/0",
        "prompt": "def double(x):\n",
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    }
    wrong = {**right, "task_id": "t/1", "canonical_solution": "    return x\n"}
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps(right) + "\n" + json.dumps(wrong) + "\n")
    figures, items = measured(tmp_path, f"benchmark.mutation.data={path}")
    assert (figures["problems"], figures["problems_whose_reference_fails"]) == (1, 1)
    assert {item["problem"] for item in items} == {"t/0"}
    assert "plus_score" not in figures


def test_problems_without_a_reference_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps({name: value for name, value in WEAK.items() if name != "canonical_solution"}) + "\n")
    done = call(main, ["benchmark=[mutation]", f"results_dir={tmp_path}", f"benchmark.mutation.data={path}"])
    assert done.returncode == 2
    assert "has no canonical_solution" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
