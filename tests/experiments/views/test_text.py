from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from experiments.report import main
from experiments.views.columns import Row
from experiments.views.schema import SCHEMA, schema_text
from experiments.views.text import csv_text, json_text, markdown, render_table


@pytest.mark.parametrize("width", [60, 100, 400])
def test_the_table_fits_and_names_what_had_to_leave(found: list[Row], width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    render_table(found, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    table = said.split("offload: out_of_memory")[0].splitlines()
    assert max(map(len, table)) <= width
    assert "runtime" in table[0]
    assert ("too narrow for" in said) == (width < 400)


def test_speed_and_accuracy_leave_last_and_what_left_is_named_by_importance(found: list[Row]) -> None:
    console = Console(width=72, file=io.StringIO())
    render_table(found, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.split("\n")[0].split("  ")[0] == "runtime"
    assert "decode speedup  choice accuracy" in said.splitlines()[0]
    assert "too narrow for: TPOT p50 ms, " in said
    assert re.search(r"and \d+\s+others;", said)


def test_markdown_keeps_pipes_and_newlines_within_their_cell(found: list[Row]) -> None:
    found[0]["runtime"] = "a|b\nc"
    lines = markdown(found, wide=True).splitlines()
    assert lines[2].startswith(r"| a\|b c * |")
    assert len({line.replace(r"\|", "").count("|") for line in lines[: 2 + len(found)]}) == 1


def test_csv_has_a_line_a_row(found: list[Row]) -> None:
    read = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [row["runtime"] for row in read] == [row["runtime"] for row in found]


def test_json_is_as_its_published_schema_says(found: list[Row]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json_text(found)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{**found[0], "tpot_s_p50": "fast"}], schema)


def test_the_published_schema_is_the_one_of_the_columns() -> None:
    assert SCHEMA.read_text() == schema_text(), "write it again: SCHEMA.write_text(schema_text())"


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_a_format_goes_where_it_is_told_to(swept: Path, tmp_path: Path, form: str) -> None:
    assert main([str(swept), "--format", form, "--output", str(tmp_path / "out")]) == 0
    assert "onnxruntime" in (tmp_path / "out").read_text()
