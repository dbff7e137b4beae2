from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.difference import difference
from runtime_matrix.experiments.records.metric import error_key
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.report import main
from tests.experiments.recorded import changed_row, make_record, sweep, write


def test_nothing_changed_between_a_folder_and_itself(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--diff", str(swept), str(swept)]) == 0
    assert capsys.readouterr().out == "no change beyond the intervals\n"


def test_changes_beyond_noise_are_listed_and_others_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sweep(tmp_path / "before")
    after = write(
        tmp_path / "after",
        [make_record("eager", seed=1), make_record("onnxruntime", slowness=0.41, peak_mib=240), make_record("awq")],
        {"onnxruntime": 1.5, "awq": 1.0},
    )
    assert main(["--diff", str(before), str(after)]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime · float32 · bundled · auto: peak MiB: 120 → 240 (worse)" in said
    assert "decode speedup: 2.5" in said and "(worse), each against its own run's reference" in said  # noqa: PT018
    assert "only in the first: gptq · float32 · bundled · auto" in said
    assert "only in the second: awq · float32 · bundled · auto" in said
    assert "TPOT" not in said  # absolute times of two runs are no change
    assert "differ within their intervals" in said


def test_an_option_of_a_later_version_is_the_same_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = make_record("eager", run="later", peak_mib=600)
    later = replace(later, config_hash="another", config={**later.config, "scoring": {"exact": False}})
    folders = [write(tmp_path / name, [one]) for name, one in (("old", make_record("eager")), ("new", later))]
    assert main(["--diff", *map(str, folders)]) == 0
    said = capsys.readouterr().out
    assert "peak MiB: 60 → 600 (worse)" in said
    assert "only in" not in said


def test_columns_of_single_configurations_are_compared(found: list[Row]) -> None:
    key = "code_pass_at_10"
    rows = [changed_row(found[1], **{key: value, error_key(key): 0.01}) for value in (0.5, 0.9)]
    (change,) = difference(rows[:1], rows[1:])[0]
    assert (change.column, change.is_real) == ("code pass@10", True)
