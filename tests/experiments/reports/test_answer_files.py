"""Answers of recorded cells as files that lm-evaluation-harness and inspect_ai read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from runtime_matrix.experiments.report import main as report
from tests.conftest import ROOT
from tests.experiments.recorded import QUESTIONS
from tests.in_process import call

INSPECT = Path(os.environ.get("RUNTIME_MATRIX_INSPECT", ROOT / ".slow" / "inspect" / "bin" / "python"))


def test_files_of_lm_eval_are_found_and_read_by_its_own_functions(swept: Path) -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="the extra lm-eval is not installed")
    assert call(report, [str(swept), "--format", "lm-eval"]).returncode == 0
    cells = sorted((swept / "lm-eval").iterdir())
    assert len(cells) == 4
    for cell in cells:
        names = [str(path) for path in cell.iterdir()]
        latest = utils.get_latest_filename(utils.get_results_filenames(names))
        results = json.loads(Path(latest).read_text())
        assert "acc" in utils.make_table(results)
        (samples,) = utils.get_sample_results_filenames(names)
        assert utils.get_file_task_name(Path(samples).name) == "multiple_choice"
        assert utils.get_file_datetime(Path(samples).name) in Path(latest).name
        lines = [json.loads(line) for line in Path(samples).read_text().splitlines()]
        assert len(lines) == QUESTIONS
        accuracy = sum(line["acc"] for line in lines) / QUESTIONS
        assert results["results"]["multiple_choice"]["acc,none"] == pytest.approx(accuracy)
        assert lines[0]["filtered_resps"] == [["-1.0", "True"], ["-2.0", "False"]]


def test_samples_files_load_as_a_data_set(swept: Path, tmp_path: Path) -> None:
    """lm-eval pushes them to the hub in this form."""
    datasets = pytest.importorskip("datasets")
    assert call(report, [str(swept), "--format", "lm-eval", "--output", str(tmp_path / "out")]).returncode == 0
    files = [str(path) for path in sorted((tmp_path / "out").glob("*/samples_*.jsonl"))]
    rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 4 * QUESTIONS


def test_a_log_of_inspect_has_each_answer(swept: Path) -> None:
    assert call(report, [str(swept), "--format", "inspect"]).returncode == 0
    logs = [json.loads(path.read_text()) for path in sorted((swept / "inspect").glob("*.json"))]
    assert {log["eval"]["model"] for log in logs} >= {"runtime_matrix/eager", "runtime_matrix/onnxruntime"}
    for log in logs:
        values = [sample["scores"]["acc"]["value"] for sample in log["samples"]]
        assert len(values) == QUESTIONS
        assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == sum(values) / QUESTIONS


@pytest.mark.slow
def test_inspect_opens_the_logs(swept: Path) -> None:
    if not INSPECT.exists():
        pytest.skip(f"no inspect_ai at {INSPECT}: make install-slow")
    assert call(report, [str(swept), "--format", "inspect"]).returncode == 0
    code = (
        "import sys; from inspect_ai.log import list_eval_logs, read_eval_log\n"
        "for info in list_eval_logs(sys.argv[1]):\n"
        "    log = read_eval_log(info)\n"
        "    print(log.eval.model, len(log.samples), log.samples[0].output.completion, log.samples[0].score.as_float())"
    )
    done = subprocess.run(
        [str(INSPECT), "-c", code, str(swept / "inspect")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"runtime_matrix/eager {QUESTIONS} one 1.0" in done.stdout
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("form", ["lm-eval", "inspect"])
def test_what_has_no_answers_is_one_line(form: str, swept: Path, tmp_path: Path) -> None:
    published = call(report, [str(ROOT / "results" / "amd-epyc-2-cores"), "--format", form])
    assert published.returncode == 2
    assert "published matrix" in published.stderr
    (items,) = sorted(swept.glob("*-eager/items-multiple_choice.jsonl"))
    items.write_text("[1, 2")
    damaged = call(report, [str(swept), "--format", form])
    assert damaged.returncode == 2
    assert damaged.stderr.count("\n") == 1
    assert "items-multiple_choice.jsonl cannot be read" in damaged.stderr
