from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.sandbox.checks import plan_checks, verdict_is_inside
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.tasks import code_scores

PROBLEM = {
    "task_id": "t/0",
    "prompt": "def double(x):\n",
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "task_id": 1,
    "text": "Double it.",
    "code": "def double(x):\n    return 2 * x",
    "test_list": ["assert double(2) == 4"],
}


def program(problem: loading.Problem, completion: str) -> Program:
    return Program(problem.head + completion, problem.test, problem.entry_point, problem.calls_check, problem.helpers)


def write(path: Path, *items: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.mark.alone
@pytest.mark.parametrize(
    ("name", "count", "inside"), [("humaneval/HumanEval.jsonl.gz", 164, 0), ("mbpp/mbpp.jsonl", 974, 1)]
)
def test_reference_solutions_of_the_public_sets_pass(data_folder: Path, name: str, count: int, inside: int) -> None:
    found = loading.load(data_folder / name)
    assert len(found) == count
    with Pool(2) as pool:
        verdicts = [pool.submit(program(problem, str(problem.reference))) for problem in found]
        failed = [
            (problem.id, one.result()) for problem, one in zip(found, verdicts, strict=True) if not one.result().passed
        ]
    assert failed == []
    checks = [plan_checks(p.test, p.entry_point, p.calls_check, p.helpers) for p in found]
    assert sum(map(verdict_is_inside, checks)) == inside


def test_wrong_solutions_of_the_public_sets_fail(data_folder: Path) -> None:
    """The answer of another problem: a grader that passes everything would pass it."""
    found = loading.load(data_folder / "humaneval/HumanEval.jsonl.gz")[:40]
    with Pool(2) as pool:
        verdicts = [pool.submit(program(problem, str(other.reference))) for problem, other in pairwise(found)]
        assert not any(one.result().passed for one in verdicts)


def test_a_helper_that_the_program_redefines_does_not_decide(data_folder: Path) -> None:
    """HumanEval/32 judges a root by `poly`, which stands in the prompt: a program must not bring its own."""
    problem = next(p for p in loading.load(data_folder / "humaneval/HumanEval.jsonl.gz") if p.id == "HumanEval/32")
    cheat = "    return 0.0\n\ndef poly(xs, x):\n    return 0.0\n"
    with Pool(1) as pool:
        assert not pool.submit(program(problem, cheat)).result().passed


def test_both_formats_are_read_gzipped_or_not(tmp_path: Path) -> None:
    (human,) = loading.load(write(tmp_path / "h.jsonl", PROBLEM))
    (mbpp,) = loading.load(write(tmp_path / "m.jsonl", MBPP))
    assert (human.calls_check, mbpp.calls_check) == (True, False)
    assert mbpp.prompt == '"""\nDouble it.\nassert double(2) == 4\n"""\n'
    assert mbpp.entry_point == "double"
    packed = tmp_path / "h.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(PROBLEM).encode()))
    assert loading.load(packed) == [human]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test": ""}, "has no test"),
        ({"test": "x = 1"}, "has no tests: `test` must define check"),
        ({"test": "def check(candidate:\n"}, "its test is not valid Python"),
        ({"entry_point": "triple"}, "does not define its entry point 'triple'"),
        ({"prompt": ""}, "has no prompt"),
        ({"plus_input": [[1]]}, "the base_input of t/0 is missing: base and added tests are scored together"),
    ],
)
def test_unusable_problems_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=f"line 1.*{says}"):
        loading.load(write(tmp_path / "bad.jsonl", {**PROBLEM, **change}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test_list": []}, "has no test_list"),
        ({"test_list": ["assert double(2 == 4"]}, "its test_list is not valid Python"),
        ({"test_list": ["assert triple(2) == 4"]}, "has no entry point"),
        ({"text": ""}, "has no text"),
    ],
)
def test_unusable_mbpp_problems_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=f"line 1.*{says}"):
        loading.load(write(tmp_path / "bad.jsonl", {**MBPP, **change}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no problem"),
        (b'{"task_id": \n', "line 1: not JSON"),
        (b"[1]\n", "item 1: not a JSON object"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=says):
        loading.load(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="damaged gzip"):
        loading.load(tmp_path / "bad.jsonl.gz")


def test_solutions_are_read_and_checked(tmp_path: Path) -> None:
    all_problems = loading.load(write(tmp_path / "p.jsonl", PROBLEM, {**PROBLEM, "task_id": "t/1"}))
    good = [{"task_id": f"t/{i % 2}", "completion": f"    return {i}\n"} for i in range(4)]
    found = loading.load_solutions(write(tmp_path / "s.jsonl", *good), all_problems)
    assert found == {"t/0": ["    return 0\n", "    return 2\n"], "t/1": ["    return 1\n", "    return 3\n"]}
    for items, says in (
        ([{"task_id": "t/0"}], "line 1: has no completion"),
        ([{"task_id": "t/9", "completion": ""}], "'t/9' is not one of the problems"),
        (good[:1], "no completion of 't/1'"),
    ):
        with pytest.raises(UserError, match=says):
            loading.load_solutions(write(tmp_path / "s.jsonl", *items), all_problems)
    (tmp_path / "s.jsonl").write_text('{"task_id": "t/0", "comp\n')
    with pytest.raises(UserError, match="line 1: not JSON"):
        loading.load_solutions(tmp_path / "s.jsonl", all_problems)


def test_a_missing_reference_solution_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {key: value for key, value in PROBLEM.items() if key != "canonical_solution"})
    with pytest.raises(UserError, match="'t/0' has no reference solution; use solutions=model"):
        plan(compose([f"benchmark.code.data={path}", "benchmark.code.solutions=reference"]), "test")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["benchmark.code.samples=4"], "set benchmark.code.temperature"),
        (["benchmark.code.k=[1,8]"], r"set benchmark\.code\.samples=8"),
        (["benchmark.code.temperature=-1"], "at least 0"),
    ],
)
def test_contradicting_options_are_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(compose(overrides), "test")


def test_summary_of_problems() -> None:
    found = code_scores.summarise([(2, 1), (2, 2), (2, 0)], [1, 2])
    assert found.pass_at == {1: pytest.approx(0.5), 2: pytest.approx(2 / 3)}
    assert found.by_problem[1] == [0.5, 1.0, 0.0]


def test_the_cpu_time_of_all_programs_is_unknown_if_one_is() -> None:
    first, second = Verdict("passed", "", 0.5, 1.0), Verdict("passed", "", 0.25, 1.0)
    assert code_scores.total_cpu_s([[first], [second]]) == 0.75
    assert code_scores.total_cpu_s([[first, replace(second, cpu_s=None)]]) is None
