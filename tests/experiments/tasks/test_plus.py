"""HumanEval+ and MBPP+: read, scored by base and added tests, and refused where they cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.problems.formats.mbpp_types import typed
from runtime_matrix.experiments.problems.loading import Problem
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.sandbox.cases import Cases
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.sandbox.references import ReferenceOutputs
from runtime_matrix.experiments.sandbox.values import loads
from runtime_matrix.experiments.tasks import code_scores
from runtime_matrix.experiments.tasks.judging import program_of, with_cases
from tests.in_process import call

HALF = {
    "task_id": "HumanEval/900",
    "prompt": "def half(x):\n",
    "entry_point": "half",
    "canonical_solution": "    return x / 2\n",
    "test": "def check(candidate):\n    assert candidate(2) == 1\n",
    "contract": "\n    assert isinstance(x, int), 'invalid inputs' # $_CONTRACT_$\n",
    "base_input": [[2], [4]],
    "plus_input": [[3], ["odd"], [-7]],
    "atol": 0,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, Limits(cpu_s=30, wall_s=600.0)) as made:
        yield made


def write(path: Path, *items: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def cases_of(pool: Pool, found: Sequence[Problem], path: Path | None = None) -> list[Cases]:
    references = ReferenceOutputs(path, pool)
    try:
        return references.cases([problem.suite for problem in found if problem.suite is not None])
    finally:
        references.close()


def verdicts(pool: Pool, found: Sequence[Problem], cases: Sequence[Cases], texts: Sequence[str]) -> list[Verdict]:
    programs = [
        Program(problem.head + text, "", problem.entry_point, problem.calls_check, cases=known)
        for problem, known, text in zip(found, cases, texts, strict=True)
    ]
    return [future.result(timeout=120) for future in [pool.submit(program) for program in programs]]


def judged(pool: Pool, tmp_path: Path, item: Mapping[str, object], *texts: str) -> list[Verdict]:
    found = loading.load(write(tmp_path / "plus.jsonl", item))
    cases = cases_of(pool, found)
    return [verdict for text in texts for verdict in verdicts(pool, found, cases, [text])]


def lookup(problem: Problem) -> str:
    """Return a completion that knows the outputs of the base inputs only, by running the reference on them."""
    assert problem.suite is not None
    names: dict[str, object] = {}
    exec(problem.suite.reference, names)
    function = names[problem.entry_point]
    assert callable(function)
    answers = {}
    for text in problem.suite.base:
        answers[json.dumps(json.loads(text))] = function(*loads(text))
    assert problem.suite.validity is not None
    return f"    import json\n    return {answers!r}.get(json.dumps([*locals().values()][:-1]))\n"


# Of HumanEval/32, the whole release has polynomials whose largest coefficient is 0, against its contract.
@pytest.mark.parametrize(
    ("name", "skipped"), [("HumanEvalPlus-Mini", 0), pytest.param("HumanEvalPlus", 62, marks=pytest.mark.slow)]
)
def test_references_pass_base_and_added_tests(
    data_folder: Path, pool: Pool, tmp_path: Path, name: str, skipped: int
) -> None:
    found = loading.load(data_folder / f"humanevalplus/{name}.jsonl.gz")
    cases = cases_of(pool, found, tmp_path / "expected.sqlite")
    judged = verdicts(pool, found, cases, [str(problem.reference) for problem in found])
    figures = code_scores.pass_figures([[verdict] for verdict in judged], [1])
    assert [(p.id, v) for p, v in zip(found, judged, strict=True) if not v.passed] == []
    assert (figures["pass_at_1"], figures["plus_pass_at_1"], figures["items"]) == (1.0, 1.0, 164)
    assert sum(known.skipped for known in cases) == skipped
    assert cases_of(pool, found, tmp_path / "expected.sqlite") == cases, "the second time they are read"


def test_a_table_of_the_base_inputs_passes_the_base_tests_only(data_folder: Path, pool: Pool) -> None:
    found = loading.load(data_folder / "humanevalplus/HumanEvalPlus-Mini.jsonl.gz", 3)
    judged = verdicts(pool, found, cases_of(pool, found), [lookup(problem) for problem in found])
    assert [(verdict.base_status, verdict.status) for verdict in judged] == [("passed", "failed")] * 3
    assert all(verdict.reason.startswith("plus input ") for verdict in judged), judged
    figures = code_scores.pass_figures([[verdict] for verdict in judged], [1])
    assert (figures["pass_at_1"], figures["plus_pass_at_1"]) == (1.0, 0.0)


def test_without_expected_outputs_nothing_passes(pool: Pool, tmp_path: Path) -> None:
    (found,) = loading.load(write(tmp_path / "plus.jsonl", HALF))
    verdict = pool.submit(program_of(found, str(found.reference))).result()
    assert (verdict.status, verdict.reason) == ("failed", "AssertionError the expected outputs are not known")
    (known,) = with_cases([found], pool, None)
    assert pool.submit(program_of(known, str(found.reference))).result().passed


def test_wrong_solutions_fail(data_folder: Path, pool: Pool) -> None:
    """The answer of another problem: a grader that passes everything would pass it."""
    found = loading.load(data_folder / "humanevalplus/HumanEvalPlus-Mini.jsonl.gz", 40)
    others = [str(problem.reference) for problem in [*found[1:], found[0]]]
    judged = verdicts(pool, found, cases_of(pool, found), others)
    assert not any(verdict.passed_base for verdict in judged)


def test_a_verdict_names_the_first_wrong_input(pool: Pool, tmp_path: Path) -> None:
    texts = ["    return x / 2\n", "    return x // 2\n", "    return 0\n", "    return 1 / (x + 7)\n"]
    right, plus, base, raising = judged(pool, tmp_path, HALF, *texts)
    assert (right.status, right.base_status, right.reason) == ("passed", "passed", "")
    assert (plus.status, plus.base_status) == ("failed", "passed")
    assert plus.reason == "plus input 0 (3): AssertionError 1 instead of 1.5"
    assert (base.status, base.base_status) == ("failed", "failed")
    assert base.reason == "base input 0 (2): AssertionError 0 instead of 1.0"
    assert raising.base_status == "failed"


def test_a_program_that_does_not_load_fails_at_no_input(pool: Pool, tmp_path: Path) -> None:
    (verdict,) = judged(pool, tmp_path, HALF, "    return x /\n")
    assert (verdict.status, verdict.base_status) == ("failed", "failed")
    assert verdict.reason.startswith("SyntaxError: invalid syntax")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("import os; os._exit(0)", "crash", "plus input 1 (-7): the program ended without an answer"),
        ("return 'a' * (20 << 20)", "failed", "plus input 1 (-7): the answer is too long"),
        ("raise SystemExit", "failed", "plus input 1 (-7): AssertionError it raised SystemExit"),
    ],
)
def test_programs_that_end_in_the_added_tests_pass_the_base_tests(
    pool: Pool, tmp_path: Path, body: str, status: str, says: str
) -> None:
    (verdict,) = judged(pool, tmp_path, HALF, f"    if x < 0: {body}\n    return x / 2\n")
    assert (verdict.status, verdict.base_status, verdict.reason) == (status, "passed", says)


def test_a_program_cannot_make_itself_right(pool: Pool, tmp_path: Path) -> None:
    """Its answers are data: an object that equals everything arrives as one that equals nothing."""
    always = "    class Always:\n        __eq__ = lambda self, other: True\n    return Always()\n"
    lying = "    class Lie(float):\n        __eq__ = lambda self, other: True\n    return Lie(0)\n"
    assert not any(verdict.passed_base for verdict in judged(pool, tmp_path, HALF, always, lying))


def test_added_inputs_that_break_the_contract_are_skipped(pool: Pool, tmp_path: Path) -> None:
    found = loading.load(write(tmp_path / "plus.jsonl", HALF))
    (cases,) = cases_of(pool, found)
    assert (cases.base, len(cases.inputs), cases.skipped) == (2, 4, 1)
    assert [output.value for output in cases.expected] == [1.0, 2.0, 1.5, -3.5]
    changing = {**HALF, "contract": "\n    x = str(x)\n    assert x\n", "plus_input": [[3]]}
    (cases,) = cases_of(pool, loading.load(write(tmp_path / "plus.jsonl", changing)))
    assert cases.expected[-1].value == 1.5, "the contract changes its arguments, not those of the reference"


def test_outputs_of_megabytes_are_compared_by_digest(pool: Pool, tmp_path: Path) -> None:
    item = {**HALF, "canonical_solution": "    return [x] * 10 ** 5\n", "plus_input": [[3]]}
    texts = ["    return [x * 1.0] * 10 ** 5\n", "    return [x] * (10 ** 5 - 1)\n"]
    equal, other = judged(pool, tmp_path, item, *texts)
    assert equal.passed
    assert not other.passed_base


@pytest.mark.parametrize("given", [{"canonical_solution": "    return 1 / (x - 3)\n"}, {"contract": ""}])
def test_a_reference_without_an_output_is_an_error(pool: Pool, tmp_path: Path, given: dict[str, object]) -> None:
    found = loading.load(write(tmp_path / "plus.jsonl", {**HALF, **given}))
    with pytest.raises(UserError, match=r"line 1: HumanEval/900 cannot be scored: its reference .* input [23] of 5 \("):
        cases_of(pool, found)


def test_a_damaged_cache_is_replaced(pool: Pool, tmp_path: Path) -> None:
    found = loading.load(write(tmp_path / "plus.jsonl", HALF))
    (tmp_path / "expected.sqlite").write_bytes(b"no database" * 500)
    references = ReferenceOutputs(tmp_path / "expected.sqlite", pool)
    assert len(references.cases([problem.suite for problem in found if problem.suite])) == 1
    assert "set aside" in str(references.note)
    references.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"plus_input": None}, "plus_input of HumanEval/900 is missing"),
        ({"base_input": None}, "base_input of HumanEval/900 is missing: base and added tests are scored together"),
        ({"base_input": []}, "base_input of HumanEval/900 is empty"),
        ({"plus_input": [1, 2]}, "plus_input of HumanEval/900 is not a list of lists of arguments"),
        ({"plus_input": {"0": [1]}}, "plus_input of HumanEval/900 is not a list of lists"),
        ({"canonical_solution": ""}, "has no canonical_solution"),
        ({"canonical_solution": "  return (\n"}, "its canonical_solution is not valid Python"),
        ({"entry_point": "third"}, "does not define its entry point 'third'"),
        ({"contract": "\n    assert (\n"}, "its contract is not valid Python"),
        ({"contract": 3}, "the contract of HumanEval/900 is not a string"),
        ({"atol": "small"}, "atol of HumanEval/900 is 'small', not a number"),
    ],
)
def test_malformed_problems_are_refused_in_one_line(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=f"line 1: .*{says}") as refusal:
        loading.load(write(tmp_path / "bad.jsonl", {**HALF, **change}))
    assert "\n" not in str(refusal.value)


def test_a_file_is_never_scored_by_base_tests_alone(tmp_path: Path) -> None:
    plain = {name: value for name, value in HALF.items() if not name.endswith("_input")} | {"task_id": "t/1"}
    with pytest.raises(UserError, match="t/1 has no plus_input, but others have"):
        loading.load(write(tmp_path / "mixed.jsonl", HALF, plain))
    with pytest.raises(UserError, match="no problem has an added test"):
        loading.load(write(tmp_path / "empty.jsonl", {**HALF, "plus_input": []}))


SHARED = "def similar_elements(a, b):\n    return {}\n"
SURFACE = "def surface_Area(b, s):\n    return {}\n"
DIGITS = "def digit_distance_nums(a, b):\n    return {}\n"
CHECK = "def check_str(s):\n    return {}\n"
VOLUME = "def volume(r):\n    return {}\n"


def mbpp(
    number: int, code: str, entry: str, base: list[object], plus: list[object], atol: float = 0
) -> dict[str, object]:
    """Return a problem in MBPP+'s layout."""
    return {
        "task_id": f"Mbpp/{number}",
        "prompt": '"""\nWrite it.\nassert True\n"""\n',
        "entry_point": entry,
        "canonical_solution": f"\n{code}",
        "base_input": base,
        "plus_input": plus,
        "atol": atol,
        "contract": "\n  assert True # $_CONTRACT_$\n",
        "assertion": "\nassert True\n",
    }


# A reference, another right answer and a wrong one, by the oracle that must tell them apart.
ORACLES = [
    mbpp(2, SHARED.format("tuple(set(a) & set(b))"), "similar_elements", [[[1, 2], [2, 1]]], [[[3, 4], [4]]]),
    mbpp(164, "def are_equivalent(a, b):\n    return a == b\n", "are_equivalent", [[1, 1]], [[1, 2]]),
    mbpp(295, "def sum_div(x):\n    return x + 1\n", "sum_div", [[3]], [[4]]),
    mbpp(581, SURFACE.format("2 * b * s + pow(b, 2)"), "surface_Area", [[3, 4]], [[4, 5]]),
    mbpp(558, DIGITS.format("sum(map(int, str(abs(a - b))))"), "digit_distance_nums", [[1, 2]], [[23, 5]]),
    mbpp(737, "import re\n" + CHECK.format("re.match('[aeiou]', s)"), "check_str", [["annie"]], [["dawood"]]),
    mbpp(82, VOLUME.format("r * 4.18879"), "volume", [[10]], [[25]], 1e-3),
]
PADDED = "sum(abs(int(x) - int(y)) for x, y in zip(*(str(n).zfill(max(len(str(a)), len(str(b)))) for n in (a, b))))"
OTHERS = {
    2: (SHARED.format("[x for x in b if x in a]"), SHARED.format("a")),
    164: ("def are_equivalent(a, b):\n    return None\n", "def are_equivalent(a, b):\n    raise ValueError\n"),
    295: ("def sum_div(x):\n    return 0\n", "def sum_div(x):\n    return x\n"),
    581: (SURFACE.format("round(b * b + 2 * b * ((b / 2) ** 2 + s * s) ** 0.5)"), SURFACE.format("0")),
    558: (DIGITS.format(PADDED), DIGITS.format("-1")),
    737: (CHECK.format("s[0] in 'aeiou'"), CHECK.format("s")),
    82: (VOLUME.format("r * 4.18879 + 1e-4"), VOLUME.format("r * 4.18879 + 1e-2")),
}


def test_mbpp_plus_is_scored_by_its_oracles(pool: Pool, tmp_path: Path) -> None:
    found = loading.load(write(tmp_path / "mbppplus.jsonl", *ORACLES))
    cases = cases_of(pool, found)
    numbers = [int(problem.id.partition("/")[2]) for problem in found]
    for texts, passes in (
        ([str(problem.reference) for problem in found], True),
        ([OTHERS[number][0] for number in numbers], True),
        ([OTHERS[number][1] for number in numbers], False),
    ):
        judged = verdicts(pool, found, cases, texts)
        assert [verdict.passed for verdict in judged] == [passes] * len(found), judged
    assert loads(cases[0].inputs[0]) == [(1, 2), (2, 1)], "JSON's lists are the tuples that the problem takes"


@pytest.mark.parametrize(
    ("number", "given", "types"),
    [
        (1, [[1], "a"], [[1], "a"]),
        (132, [["a", "b"]], [("a", "b")]),
        (64, [[["a", 1]]], [[("a", 1)]]),
        (75, [[[1, 2]], 3], [[(1, 2)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1], []]], [[{1}, {}]]),
        (124, ["1", "2j"], [1.0, 2j]),
        (250, [[1], 2], [(1,), 2]),
        (259, [[[1], [2]]], [((1,), (2,))]),
        (278, [[1, [2]]], [(1, (2,))]),
        (252, ["1+2j"], [1 + 2j]),
        (722, [{"a": [1]}, 2.0], [{"a": (1,)}, 2.0]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
    ],
)  # fmt: skip
def test_inputs_of_mbpp_plus_have_their_types(number: int, given: list[object], types: list[object]) -> None:
    assert typed(number, given) == types


def test_inputs_that_have_other_types_are_refused(tmp_path: Path) -> None:
    item = mbpp(252, "def convert(x):\n    return x\n", "convert", [["1+2j"]], [["text"]])
    with pytest.raises(UserError, match=r"plus_input of Mbpp/252 has inputs of other types \(complex\(\)"):
        loading.load(write(tmp_path / "bad.jsonl", item))


def test_both_scores_stand_in_the_matrix(tmp_path: Path) -> None:
    data = write(tmp_path / "plus.jsonl", HALF, {**HALF, "task_id": "HumanEval/901"})
    texts = ["    return x / 2\n", "    return x // 2\n"]
    solutions = [{"task_id": f"HumanEval/90{at}", "completion": text} for at, text in enumerate(texts)]
    options = [f"benchmark.code.data={data}", f"benchmark.code.solutions={write(tmp_path / 's.jsonl', *solutions)}"]
    common = ["hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]"]
    done = call(main, ["benchmark=[code]", *common, f"results_dir={tmp_path / 'runs'}", *options])
    assert done.returncode == 0, done.stderr
    results, _ = read_results(tmp_path / "runs")
    (row,) = rows(results)
    assert (row.get("code_pass_at_1"), row.get("code_plus_pass_at_1")) == (1.0, 0.5)
    assert row.get("code_plus_pass_at_1_standard_error") is not None
    (path,) = (tmp_path / "runs").glob("*/items-code.jsonl")
    right, wrong = map(json.loads, path.read_text().splitlines())
    assert [right[name] for name in ("status", "plus_status", "is_right", "is_right_plus")] == ["passed"] * 2 + [
        True
    ] * 2
    assert (wrong["status"], wrong["plus_status"]) == ("passed", "failed")
    assert (wrong["is_right"], wrong["is_right_plus"]) == (True, False)
    assert wrong["reason"] == "plus input 0 (3): AssertionError 1 instead of 1.5"
