from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
from msgspec.structs import replace
from rich.console import Console

from runtime_matrix.experiments.analysis.columns import COLUMNS
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.report import main
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.schema import (
    MATRIX_SCHEMA,
    RECORD_SCHEMA,
    matrix_schema,
    record_schema,
    text_of,
)
from runtime_matrix.experiments.reports.text import csv_text, json_text, markdown, render_table, width
from tests.experiments.recorded import make_record, sweep, write


@pytest.mark.parametrize("columns", [60, 100, 600])
def test_the_table_fits_and_names_the_columns_left_out(found: list[Row], columns: int) -> None:
    console = Console(width=columns, file=io.StringIO())
    render_table(found, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    table = said.split("\n\n")[0].splitlines()  # the sentence below wraps where the terminal does
    assert max(map(len, table)) <= columns
    assert "runtime" in table[0]
    assert ("too narrow for" in said) == (columns < 600)


def test_speed_and_accuracy_are_left_out_last(found: list[Row]) -> None:
    console = Console(width=72, file=io.StringIO())
    render_table(found, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.split("\n")[0].split("  ")[0] == "runtime"
    assert "decode speedup  choice accuracy" in said.splitlines()[0]
    assert "too narrow for: TPOT p50 ms, " in said
    assert re.search(r"and \d+\s+others;", said)


def test_markdown_keeps_pipes_and_newlines_within_their_cell(found: list[Row]) -> None:
    found[0] = replace(found[0], runtime="a|b\nc")
    lines = markdown(found, wide=True).splitlines()
    assert lines[2].startswith(r"| a\|b c * |")
    assert len({line.replace(r"\|", "").count("|") for line in lines[: 2 + len(found)]}) == 1


def garbage(tmp_path: Path) -> list[Row]:
    return rows(read(sweep(tmp_path / "garbage", has_garbage=True))[0])


def test_wrong_output_is_red_in_a_terminal(tmp_path: Path) -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="standard")
    render_table(garbage(tmp_path), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    line = next(one for one in said.splitlines() if "t_garbage" in one)
    assert line.startswith("\x1b[1;31mt_garbage")
    assert "\x1b[31mt_garbage: wrong output: 1,296 of 1,296 timed tokens" in said
    assert "\x1b[2moffload: out_of_memory: killed" in said  # an honest failure is no alarm


def test_wrong_output_is_marked_in_markdown_and_a_status_in_csv_and_json(tmp_path: Path) -> None:
    found = garbage(tmp_path)
    text = markdown(found)
    assert "| t_garbage | 🟥 **wrong output** | n/a | n/a | n/a |" in text
    assert "\n🟥 **t_garbage: wrong output**: 1,296 of 1,296 timed tokens" in text
    assert "| offload | out_of_memory |" in text
    (line,) = [one for one in csv.DictReader(io.StringIO(csv_text(found))) if one["runtime"] == "t_garbage"]
    assert (line["status"], line["speedup_ratio"], line["tpot_s_p50"]) == ("wrong output", "", "")
    (row,) = [one for one in json.loads(json_text(found)) if one["runtime"] == "t_garbage"]
    assert row["status"] == "wrong output"
    assert row["throughput_tokens_per_s"] is None


def test_speeds_of_two_clocks_that_disagree_have_a_note_below_the_table(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("gptq")]
    found = rows(read(write(tmp_path, cells, {"gptq": 0.62}, cpu_speedups={"gptq": 1.09}))[0])
    console = Console(width=200, file=io.StringIO())
    render_table(found, console)
    for said in (console.file.getvalue(), markdown(found)):  # type: ignore[attr-defined]
        assert "\nNOTE gptq: 0.62× by wall time, 1.09× by CPU time of one thread: " in said
        assert said.count("NOTE") == 1


def test_times_of_a_cell_alone_are_marked(tmp_path: Path, found: list[Row]) -> None:
    (lone,) = rows(read(write(tmp_path / "alone", [make_record("eager", price=1.0)]))[0])
    shown = {column.key: column.show(lone) for column in COLUMNS}
    assert re.fullmatch(r"2\.\d\d alone", shown["tpot_s_p50"])
    assert shown["usd_per_million_tokens"].endswith(" alone")
    assert shown["batched_tokens_per_s"] == "n/a"
    both = {column.key: column.show(found[1]) for column in COLUMNS}
    assert both["tpot_s_p50"] == "0.80"
    assert re.fullmatch(r"4,\d{3} \[4,\d{3}, 4,\d{3}\]", both["batched_tokens_per_s"])


def test_titles_of_columns_are_exact() -> None:
    about = {column.key: column.about for column in COLUMNS}
    assert "wall time at the cell's own threads" in about["speedup_ratio"]
    assert "CPU time of one thread" in about["cpu_speedup_ratio"]
    in_turns = [key for key in about if "speedup" in key or key.startswith(("ttft", "tpot", "batched"))]
    assert not [key for key in in_turns if "ran one after the other" in about[key]]
    assert "ran one after the other" in about["throughput_tokens_per_s"]
    assert "ran one after the other" in about["load_s"]
    assert {column.key for column in COLUMNS if column.rank == 1} == {"speedup_ratio", "mcq_accuracy"}


def test_csv_has_one_line_per_row(found: list[Row]) -> None:
    read = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [line["runtime"] for line in read] == [row.runtime for row in found]


def test_json_matches_its_published_schema(found: list[Row]) -> None:
    schema = json.loads(MATRIX_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json_text(found)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{**found[0].flat(), "tpot_s_p50": "fast"}], schema)


def test_a_record_matches_its_published_schema() -> None:
    schema = json.loads(RECORD_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for record in (make_record("eager"), make_record("offload", status="out_of_memory", reason="no room")):
        jsonschema.validate(json.loads(json.dumps(to_plain(record))), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**to_plain(make_record("eager")), "status": "splendid"}, schema)


def test_the_published_schemas_are_up_to_date() -> None:
    for path, schema in ((MATRIX_SCHEMA, matrix_schema()), (RECORD_SCHEMA, record_schema())):
        assert path.read_text() == text_of(schema), f"write {path.name} again: it is text_of() of its schema"


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_out_writes_each_format(swept: Path, tmp_path: Path, form: str) -> None:
    assert main([str(swept), "--format", form, "--output", str(tmp_path / "out")]) == 0
    assert "onnxruntime" in (tmp_path / "out").read_text()


def test_a_pipe_is_as_wide_as_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "93")
    assert width() == 93
    monkeypatch.setenv("COLUMNS", "wide")
    assert width() == 180


def test_a_published_matrix_is_shown_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep(tmp_path / "runs")
    published = tmp_path / "published"
    published.mkdir()
    assert main([str(folder), "--format", "json", "--output", str(published / "matrix.json")]) == 0
    row = json.loads((published / "matrix.json").read_text())[1]
    (published / "matrix.json").write_text(json.dumps([row | {"later": 1}, {**row, "record_id": "b", "kl_mean": None}]))
    for path in (published, published / "matrix.json"):
        for form in ("table", "html", "md", "csv", "json", "sqlite"):
            assert main([str(path), "--format", form, "--output", str(tmp_path / f"out.{form}")]) == 0
            assert (tmp_path / f"out.{form}").stat().st_size > 100
    assert main([str(published)]) == 0
    assert "onnxruntime is 2.5 times as fast as" in capsys.readouterr().out
    (published / "matrix.json").write_text('[{"runtime": "x"}]')
    assert main([str(published)]) == 2
    assert "is not a published matrix: a row has no model; write one" in capsys.readouterr().err
