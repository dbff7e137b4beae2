"""Strategies as a user runs them: one row each, and one line for a mistake."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.run import main
from tests.in_process import call

FAST = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]")


PROBLEMS = [
    {
        "task_id": f"t/{number}",
        "prompt": f'def times(x):\n    """Return x times {number}.\n\n    >>> times(2)\n    {2 * number}\n    """\n',
        "entry_point": "times",
        "canonical_solution": f"    return {number} * x\n",
        "test": f"def check(candidate):\n    assert candidate(3) == {3 * number}\n    assert candidate(0) == 0\n",
    }
    for number in (5, 7)
]


def lines(path: Path, items: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call(main, ["benchmark=[code]", *FAST, f"results_dir={folder}", *words])


def entry(folder: Path) -> tuple[JsonObject, list[JsonObject]]:
    """Return the code benchmark's entry of the only record, and its items."""
    (path,) = folder.glob("*/record.json")
    (found,) = json.loads(path.read_text())["benchmarks"]
    return found, [json.loads(line) for line in (path.parent / found["items_file"]).read_text().splitlines()]


def test_a_strategy_stands_beside_greedy_and_plain_sampling(tmp_path: Path) -> None:
    done = run(tmp_path, "strategy=filter", "strategy.plain_samples=2", "limit=3", "benchmark.code.shown_tests=2")
    assert done.returncode == 0, done.stderr
    found, items = entry(tmp_path)
    figures = found["figures"]
    assert found["parameters"]["strategy"] == "filter"
    assert len(items) == figures["items"] == 3
    assert figures["pass_at_1"] == sum(item["is_right"] for item in items) / 3
    difference = figures["pass_at_1"] - figures["greedy_pass_at_1"]
    assert figures["gain_over_greedy"] == pytest.approx(difference)
    assert figures["gain_over_greedy_low"] <= difference <= figures["gain_over_greedy_high"]
    assert figures["new_tokens_per_problem"] >= figures["greedy_new_tokens_per_problem"] > 0
    assert figures["programs_per_problem"] >= 1
    assert figures["wall_s_per_problem"] > 0
    assert 0 <= figures["plain_pass_at_1"] <= 1
    assert figures["own_figures"]["texts"] >= 1
    assert (figures["problems_without_examples"], figures["strategy_leaks"]) == (0, None)
    assert all(">>>" in item["prompt"] for item in items)
    results, _ = read_results(tmp_path)
    (row,) = rows(results)
    assert row.get("code_gain_over_greedy") == figures["gain_over_greedy"]
    assert row.get("code_gain_ratio_of_filter") == figures.get("gain_ratio")


def test_a_filter_finds_the_right_one_of_given_solutions(tmp_path: Path) -> None:
    wrong = [{"task_id": problem["task_id"], "completion": "    return 9\n"} for problem in PROBLEMS]
    right = [{"task_id": item["task_id"], "completion": item["canonical_solution"]} for item in PROBLEMS]
    data = lines(tmp_path / "problems.jsonl", PROBLEMS)
    solutions = lines(tmp_path / "solutions.jsonl", [*wrong, *wrong, *right])
    words = (f"benchmark.code.data={data}", f"benchmark.code.solutions={solutions}")
    done = run(tmp_path / "runs", "strategy=filter", "strategy.at_once=1", *words)
    assert done.returncode == 0, done.stderr
    found, items = entry(tmp_path / "runs")
    figures = found["figures"]
    assert (figures["pass_at_1"], figures["greedy_pass_at_1"], figures["gain_over_greedy"]) == (1, 0, 1)
    assert (figures["programs_per_problem"], figures["own_figures"]["texts"]) == (3, 3)
    assert figures["new_tokens_per_problem"] == 0
    assert "plain_pass_at_1" not in figures  # nothing was sampled
    assert [item["text"] for item in items] == [problem["canonical_solution"] for problem in PROBLEMS]


def test_a_strategy_that_runs_the_tests_that_judge_says_so(tmp_path: Path) -> None:
    problem = {
        "task_id": 1,
        "text": "Double it.",
        "code": "def f(x):\n    return 2 * x",
        "test_list": ["assert f(2) == 4"],
    }
    data = lines(tmp_path / "mbpp.jsonl", [problem])
    done = run(
        tmp_path / "runs", "strategy=filter", f"benchmark.code.data={data}", "benchmark.code.solutions=reference"
    )
    assert done.returncode == 0, done.stderr
    assert "YES: knows hidden tests" in done.stdout
    assert entry(tmp_path / "runs")[0]["figures"]["strategy_leaks"] == "1 prompts show all tests that judge"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["strategy=voet"], "strategy=voet is not an option; did you mean 'vote'?"),
        (["strategy=vote", "strategy.smaples=3"], "strategy.smaples is not a known key; did you mean 'samples'?"),
        (["strategy=vote", "strategy.by=luck"], "strategy.by=luck is unknown; known: behaviour, text"),
        (["strategy=vote", "benchmark=[latency]"], "strategy=vote would be ignored: it is for programs"),
        (["strategy=samples", "benchmark.code.samples=3", "benchmark.code.temperature=1"], "samples would be ignored"),
        (["strategy=filter"], "no prompt of code.jsonl shows any: set benchmark.code.shown_tests=2"),
        (["strategy=vote"], "strategy=vote needs the tests that a prompt shows"),
        (["benchmark.code.shown_tests=9"], "has 5 tests short enough to show, and one must remain"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], says: str) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
