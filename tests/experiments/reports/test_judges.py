"""Two judges on the same answers: κ, counts, what is left out, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments import report
from tests.experiments.recorded import make_record, write

Scores = Mapping[str, float | None]


def judged_cell(folder: Path, name: str, scores: Scores, answers: Mapping[str, str] | None = None) -> Path:
    """Write the record of a cell whose answers were judged; a score of at least one half says right."""
    record = make_record(name)
    entry = next(entry for entry in record.benchmarks if entry.benchmark == "multiple_choice")
    judged = replace(entry, parameters={"verdicts_file": "verdicts-multiple_choice.jsonl"})
    write(folder, [replace(record, benchmarks=[judged])])
    lines = [
        {
            **{"id": item, "answer": (answers or {}).get(item, "an answer"), "score": score, "reason": "more"},
            "says_right": None if score is None else score >= 0.5,
        }
        for item, score in scores.items()
    ]
    path = folder / record.record_id / "verdicts-multiple_choice.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = report.main(list(map(str, words)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_judges_are_compared_on_equal_answers_with_both_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {f"q{at}": float(at % 2) for at in range(20)}
    other = {**one, "q0": 1.0, "q18": None}
    first = judged_cell(tmp_path / "a", "rule", one)
    second = judged_cell(tmp_path / "b", "model", other, {"q19": "another answer"})
    code, out, _ = said(capsys, "--judges", first, second)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("multiple_choice, 18 answers that both judged: κ 0.89 [0.")
    assert lines[1:4] == [
        "  right or wrong alike: 17 of 18",
        "  rule says right: 9 of 18",
        "  model says right: 10 of 18",
    ]
    assert lines[4].startswith("  mean scores 0.500 and 0.556, rank correlation 0.89 [")
    assert lines[5:] == ["  1 answer without a verdict of one or both", "  1 items left out: the answers differ"]


DAMAGES = {"text": "{", "list": "[1]\n", "id": '{"id": 7, "answer": "x", "score": 1}\n', "bytes": "\udcff"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    folders = [judged_cell(tmp_path / name, name, {"q": 1.0}) for name in ("a", "b")]
    (path,) = folders[0].rglob("verdicts-*.jsonl")
    path.write_bytes(DAMAGES[damage].encode("utf-8", "surrogateescape"))
    code, _, err = said(capsys, "--judges", *folders)
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be read" in err


def test_cells_without_a_judge_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write(tmp_path / name, [make_record(name)]) for name in ("a", "b")]
    code, _, err = said(capsys, "--judges", *folders)
    assert (code, err) == (
        *(2, "error: a and b have no benchmark whose answers both judged: measure with judge=NAME\n"),
    )
