"""`report --ensemble`: cells by name or folder, their scores and costs; records that do not fit are one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.report import main
from tests.experiments.recorded import items, make_record, write

ITEMS = "items-multiple_choice.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three cells; the first 32, 30 and 36 of their 40 answers are right."""
    records = [make_record("eager", accuracy=0.8), make_record("awq", accuracy=0.75), make_record("gptq", accuracy=0.9)]
    return write(tmp_path / "runs", records)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_members_ensemble_and_costs_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, str(folder), "--ensemble", "eager", "awq", "gptq")
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "multiple_choice, 40 items, majority vote of 3 cells:"
    assert lines[1:4] == ["eager     0.800", "awq       0.750", "gptq      0.900"]
    assert lines[4].startswith("ensemble  0.800, -0.100 [-0.2")
    assert lines[4].endswith("against gptq, the best on these very items")
    assert "at least one member is right: 0.900" in lines
    assert any(line.startswith("correlation of errors (phi): eager and awq 0.87;") for line in lines)
    assert lines[-1] == "cost of all, and over gptq's alone: n/a tokens, 6.00 s (3.00×), 180 MiB (3.00×)"


def test_cells_are_named_by_folder_and_combined_by_log_probability(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = str(folder / "run-1-eager"), str(folder / "run-1-awq")
    code, out, _ = said(capsys, "--ensemble", *cells, "--ensemble-by", "logprob")
    assert code == 0
    assert "mean log-probability of 2 cells" in out


def test_responses_from_the_cache_have_no_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "run-1-awq" / "record.json"
    record = json.loads(path.read_text())
    record["benchmarks"][-1]["figures"] |= {"cached_responses": 40, "new_tokens": "many"}
    path.write_text(json.dumps(record))
    assert "n/a tokens, n/a s" in said(capsys, str(folder), "--ensemble", "eager", "awq")[1]


def test_the_tokens_of_a_strategy_are_those_of_all_its_texts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"eager": {"asked_tokens": 100}, "awq": {"new_tokens_per_problem": 7.5}}
    for name, more in figures.items():
        path = folder / f"run-1-{name}" / "record.json"
        record = json.loads(path.read_text())
        record["benchmarks"][-1]["figures"] |= more
        path.write_text(json.dumps(record))
    assert "400 tokens (4.00×)" in said(capsys, str(folder), "--ensemble", "eager", "awq")[1]


def test_a_name_of_two_cells_is_refused_with_names_of_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record("eager", run="run-2", is_reference=False)
    other = replace(record, model=replace(record.model, name="draft", digest="e" * 32), config_hash="other")
    write(folder, [other])
    code, _, err = said(capsys, str(folder), "--ensemble", "eager", "awq")
    assert (code, err) == (2, "error: eager names 2 cells; name one of eager-bundled, eager-draft\n")
    code, out, _ = said(capsys, str(folder), "--ensemble", "eager-draft", "eager-bundled")
    assert code == 0
    assert "  eager-draft    0.800" in out


def test_a_cell_is_named_by_the_end_of_its_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        replace(make_record("eager"), record_id=f"run-1-0{number}-eager-bundled-auto-{name}-0a1b2c", config_hash=name)
        for number, name in enumerate(("vote", "refine"))
    ]
    folder = write(tmp_path / "runs", records)
    code, out, _ = said(capsys, str(folder), "--ensemble", "vote", "refine")
    assert code == 0
    assert "  vote      0.800" in out
    code, _, err = said(capsys, str(folder), "--ensemble", "eager", "vote")
    assert code == 2
    assert "name one of eager-bundled-auto-vote, eager-bundled-auto-refine" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ensemble", "eager"], "--ensemble needs at least two cells"),
        (["--ensemble", "eager", "agw"], "has no cell agw"),
        (["--ensemble", "eager", "eager"], "names a cell that --ensemble has already"),
        (["--ensemble-by", "logprob"], "--ensemble-by belongs to --ensemble A B"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    code, _, err = said(capsys, str(folder), *words)
    assert code == 2
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (items(5, 39), "awq lacks item q-39 of eager"),
        (items(5) + items(5), "item q-0 of awq occurs twice"),
        ("{", "cannot be read"),
        ("[1]\n", "an item is not a JSON object"),
        ('{"id": "q-0"}\n', "an item of awq has no 'is_right'"),
        (items(5).replace("What", "Who"), "ask something else in awq than in eager"),
        ("", "awq"),
    ],
)
def test_damaged_or_other_items_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    (folder / "run-1-awq" / ITEMS).write_text(content)
    code, _, err = said(capsys, str(folder), "--ensemble", "eager", "awq")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_items_outside_the_cell_s_folder_are_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "secret.jsonl").write_text(items(40))
    path = folder / "run-1-awq" / "record.json"
    path.write_text(path.read_text().replace(ITEMS, "../secret.jsonl"))
    code, _, err = said(capsys, str(folder), "--ensemble", "eager", "awq")
    assert code == 2
    assert "run-1-awq/secret.jsonl cannot be read" in err
