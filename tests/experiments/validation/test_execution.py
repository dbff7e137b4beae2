"""Damaged programs, the switches of execution, and the proof of time limits on a small suite."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from runtime_matrix.experiments import run
from runtime_matrix.experiments.validation import false_timeouts
from runtime_matrix.experiments.validation.damaged import damaged
from runtime_matrix.experiments.validation.tasks.execution import EXECUTION_SWITCHES
from tests.conftest import ROOT
from tests.in_process import call

CODE = "def f(x):\n    if x > 2 and x != 7:\n        return x + 1\n    return x * 2\n"


def test_damage_is_one_change_and_follows_the_seed() -> None:
    versions = {str(damaged(CODE, str(seed))) for seed in range(60)}
    before = ast.unparse(ast.parse(CODE)).splitlines()
    pairs = [zip(version.splitlines(), before, strict=True) for version in versions]
    changed = [line for lines in pairs for line, old in lines if line != old]
    assert len(changed) == len(versions)
    assert {"    if x >= 2 and x != 7:", "    if x > 2 or x != 7:", "    if x > 2 and x == 7:"} <= set(changed)
    assert {"        return x - 1", "        return x + 2", "    return None"} <= set(changed)
    assert damaged(CODE, "a") == damaged(CODE, "a")


@pytest.mark.parametrize("code", ["def f(x):\n    return\n", "def f(x:\n"])
def test_what_cannot_be_damaged_is_none(code: str) -> None:
    assert damaged(code, "a") is None


def test_the_published_table_has_every_switch() -> None:
    lines = (ROOT / "results" / "amd-epyc-2-cores" / "execution.md").read_text(encoding="utf-8").splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert names[2:] == list(EXECUTION_SWITCHES)


def problem(name: str, solution: str) -> str:
    test = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n"
    fields = {"task_id": name, "prompt": "def double(x):\n", "entry_point": "double", "test": test}
    return json.dumps(fields | {"canonical_solution": solution})


@pytest.mark.parametrize(
    ("words", "says"),
    [([], "data is missing: give files"), (["data=a.jsonl", "rounds=0"], "rounds=0 must be a number of at least 1")],
)
def test_a_mistake_is_one_line(words: list[str], says: str) -> None:
    done = call(false_timeouts.main, words)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("solution", "code"), [("    return 2 * x\n", 0), ("    return x\n", 1)])
def test_a_reference_that_fails_beside_a_load_is_counted(tmp_path: Path, solution: str, code: int) -> None:
    (tmp_path / "two.jsonl").write_text("\n".join([problem("a", "    return x + x\n"), problem("b", solution)]))
    words = [f"data={tmp_path / 'two.jsonl'}", "rounds=2", "fixed=3", f"results_dir={tmp_path}"]
    done = call(false_timeouts.main, words)
    assert done.returncode == code, done.stderr
    table = (tmp_path / "false_timeouts.md").read_text()
    assert f"| adaptive | 4 | {2 * code} |" in table
    assert ("- adaptive: two b: failed (AssertionError)" in table) == bool(code)
    assert str(tmp_path / "two") not in table


@pytest.mark.slow
def test_every_switch_of_execution_is_measured(tmp_path: Path) -> None:
    small = ["benchmark.execution.limit=4", "benchmark.execution.pairs=1", "benchmark.execution.endless=1"]
    done = call(run.main, ["experiment=execution", *small, "progress=false", f"results_dir={tmp_path}"])
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("*/record.json")
    (entry,) = [one for one in json.loads(record.read_text())["benchmarks"] if one["benchmark"] == "execution"]
    assert set(entry["figures"]) == set(EXECUTION_SWITCHES) == set(entry["parameters"]["work"])
    assert entry["parameters"]["work"]["adaptive time limits"].startswith("1 of ")
    assert entry["figures"]["adaptive time limits"]["cpu"] > 1.5, "an endless program is ended earlier"
