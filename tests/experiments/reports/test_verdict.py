"""The one sentence above a matrix, and its bars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.reports.verdict import bars, compared_words, sentence
from tests.experiments.recorded import changed_row, make_record, sweep, write


def matrix(folder: Path) -> list[Row]:
    return rows(read_results(folder)[0])


def test_the_fastest_is_named_with_its_answers(tmp_path: Path) -> None:
    found = matrix(sweep(tmp_path))
    said = sentence(found)
    assert said is not None
    assert said.startswith("onnxruntime is 2.5 times as fast as eager [")
    assert "keeps 100.0 % of its scores on the items measured" in said
    assert [bar.runtime for bar in bars(found)] == ["onnxruntime", "gptq", "compile", "eager"]
    assert bars(found)[-1].speed == "the reference"


def test_a_reference_beside_itself_is_a_comparison_too(tmp_path: Path) -> None:
    """As `runtime=eager,eager` gives it: every cell is the reference's."""
    pair = [make_record("eager"), make_record("twin", slowness=2, is_reference=True)]
    found = matrix(write(tmp_path, pair[:1]) and write(tmp_path, [pair[1]]))
    found = [changed_row(row, speedup_ratio=None) for row in found]
    assert sentence(found) is not None
    found[1] = changed_row(found[1], speedup_ratio=0.5, speedup_ratio_low=0.49, speedup_ratio_high=0.51)
    assert "twin takes 2 times as long as" in str(sentence(found))
    assert "answers" not in str(sentence(found))  # no answers were compared
    assert "scores" not in str(sentence(found))
    assert {bar.speed.split(" [")[0] for bar in bars(found)} == {"the reference", "takes 2 times as long as eager"}


def test_cells_of_one_runtime_are_told_apart_by_their_options(tmp_path: Path) -> None:
    found = [changed_row(row, speedup_ratio=None) for row in matrix(write(tmp_path, [make_record("eager")]))]
    beside = replace(found[0], variant="merge_adapter=null")
    merged = replace(changed_row(found[0], speedup_ratio=1.2, speedup_ratio_low=1.1, speedup_ratio_high=1.3))
    merged = replace(merged, variant="merge_adapter=true", is_reference=False)
    said = sentence([beside, merged])
    assert said is not None
    assert said.startswith("eager with merge_adapter=true is 1.2 times as fast as eager with merge_adapter=null [")


def test_the_reference_alone_gets_the_command_of_a_comparison(tmp_path: Path) -> None:
    command = "python -m experiments.run runtime=eager model=local model.path=m"
    record = replace(make_record("eager"), command=command)
    said = str(sentence(matrix(write(tmp_path, [record]))))
    assert "model=local model.path=m -m runtime=eager,onnxruntime" in said
    assert bars(matrix(tmp_path)) == []


def test_cells_in_red_beside_the_reference_alone_are_named_first(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("t_garbage")]
    red = matrix(write(tmp_path, cells, {"t_garbage": 165.0}, wrong={"t_garbage": "tokens"}))
    assert sentence(red) == "No speed can be compared: see the cells in red."


def test_wrong_output_has_no_speed(tmp_path: Path) -> None:
    (garbage,) = [row for row in matrix(sweep(tmp_path, has_garbage=True)) if row.runtime == "t_garbage"]
    said = compared_words(garbage, "eager")
    assert said.startswith("t_garbage cannot be compared with eager: ")
    assert "times" not in said


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_answers_are_of_the_items_measured(tmp_path: Path, share: float) -> None:
    row = next(row for row in matrix(sweep(tmp_path)) if row.runtime == "onnxruntime")
    said = compared_words(changed_row(row, output_match_rate=share), "eager")
    same = "gave the same answers on the items measured" in said
    assert same == (share == 1.0)


def test_one_launch_has_no_speed_with_the_reason(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    for path in folder.glob("*/speed.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "launches": content["launches"][:1]}))
    said = "No speeds are reported: one launch gives no interval: set comparison.launches=2 or more."
    assert sentence([row for row in matrix(folder) if row.status == "ok"]) == said
