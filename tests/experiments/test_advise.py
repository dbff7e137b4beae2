from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.advise import main
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.schema import ModelIdentity
from runtime_matrix.experiments.reports.reading import read
from tests.conftest import ROOT
from tests.experiments.recorded import make_record, sweep, write

PUBLISHED = ROOT / "results" / "amd-epyc-2-cores"


@pytest.mark.parametrize("goal", ["latency", "throughput", "memory", "cost"])
def test_the_published_matrix_answers_every_goal(goal: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "latency_source" not in (PUBLISHED / "matrix.json").read_text():
        pytest.skip("written by an earlier version, whose speedups were of CPU time: measure it again")
    limits = ["--max-memory-gib", "16", "--max-ttft-s", "0.2"]
    asked = ["--goal", goal, "--min-accuracy", "0.99", "--accept-unshown", *limits]
    assert main([str(PUBLISHED), *asked]) == 0
    said = capsys.readouterr().out
    assert said.startswith("run ")
    assert "\nor " in said
    assert "\ntry next:\n  python -m experiments.run " in said


def test_speedups_by_cpu_time_of_an_earlier_version_rank_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(read(sweep(tmp_path / "runs"))[0])
    older = [{key: value for key, value in row.flat().items() if "latency_source" not in key} for row in found]
    (tmp_path / "matrix.json").write_text(json.dumps([row | {"speedup_clock": "cpu_s"} for row in older]))
    main([str(tmp_path / "matrix.json"), "--goal", "latency"])
    said = capsys.readouterr().out
    assert "best TPOT p50 of cells that ran one after the other" in said
    assert "note: no speedup by wall time is known" in said
    assert "decode speed" not in said


def test_accept_unshown_accepts_estimates_and_marks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(sweep(tmp_path, has_garbage=True)), "--min-accuracy", "0.99"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert said.startswith("run eager: best interleaved decode speedup; no other cell qualifies")
    assert "\nnot compared: t_garbage: wrong output: " in said
    assert "\nnote: no cell but the reference is shown to keep 99 % of its scores; about " in said
    assert main([*asked, "--accept-unshown"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("run onnxruntime: ")
    assert "\nnote: accepted by its estimate alone: onnxruntime keeps 100.0 % [" in said


def test_exit_code_3_if_no_cell_qualifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish = ["--min-accuracy", "0.99", "--max-memory-gib", "0.05"]
    assert main([str(sweep(tmp_path)), *wish]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "no measured cell qualifies"
    assert said[1].startswith("the smallest relaxation: --max-memory-gib 0.05")
    assert said[1].endswith("which eager meets")
    relaxed = said[1].split(": ")[1].split(",")[0].split()
    assert main([str(tmp_path), "--min-accuracy", "0.99", *relaxed]) == 0  # what it says is enough


def test_another_machine_few_records_and_unreadable_ones_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [make_record("eager")])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "record.json").write_text("{")
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "note: few records: 1 measured cells" in said.out
    assert "note: the records are of another machine" in said.out
    assert "left out: " in said.err


def test_models_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelIdentity(name="another", digest="e" * 32)
    other = replace(make_record("eager", run="other"), model=model, config_hash="another")
    write(sweep(tmp_path), [other])
    assert main([str(tmp_path)]) == 2
    assert "choose with --model another or bundled" in capsys.readouterr().err
    assert main([str(tmp_path), "--model", "bundeld"]) == 2
    assert "did you mean 'bundled'?" in capsys.readouterr().err
    assert main([str(tmp_path), "--model", "bundled"]) == 0


def test_a_file_that_is_not_a_matrix_is_a_user_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "matrix.json").write_text("[]")
    assert main([str(tmp_path / "matrix.json")]) == 2
    assert "is not a published matrix" in capsys.readouterr().err


def test_rows_of_report_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(read(sweep(tmp_path / "runs"))[0])
    (tmp_path / "matrix.json").write_text(json.dumps([row.flat() for row in found]))
    assert main([str(tmp_path / "matrix.json"), "--goal", "memory"]) == 0
    assert capsys.readouterr().out.startswith("run gptq: ")
