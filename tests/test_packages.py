"""One of each kind that another package may add, seen by every command: table, page, JSON, advice and gate."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime_matrix.experiments.tasks.extractive_qa import TASK, load, prompt
from tests.installing import Python, install, python_with

RUNTIMES = "-m", "runtime=eager,patient", "runtime/weights=full"
SHORT = (
    *("comparison.launches=2", "comparison.rounds=2", "comparison.seconds=1", "comparison.extra_rounds=1"),
    *(
        "comparison.warmup=1",
        "comparison.batched=2",
        "comparison.one_thread_rounds=0",
        "benchmark.latency.iterations=2",
    ),
)
GATE = """# @package gate
name: ours
confirm: false
alpha: 0.05
indifferent: 0.02
must_find: 0.05
interim_launches: [3]
reference: {accuracy: {recall: 0.9}, longest: 30, outputs: []}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Return `python -m …` where a benchmark, a gate axis, an engine, a weight kind and an exporter are installed."""
    return python_with(install(tmp_path_factory.mktemp("packages"), "benchmark", "exporter", "weights"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "recall.jsonl"
    questions = load(TASK.path(SimpleNamespace(data="bundled")), 12)
    lines = [{"prompt": prompt(question), "answer": question.answers[0]} for question in questions]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def sweep(python: Python, data: Path, folder: Path, *more: str) -> tuple[Path, str]:
    """Return the results of a sweep over both engines, and what it printed."""
    words = ["benchmark=[latency,memory,recall]", f"benchmark.recall.data={data}", f"results_dir={folder / 'runs'}"]
    words += ["monitoring=[lines]", f"monitoring.lines_file={folder / 'lines.txt'}"]
    done = python("experiments.run", *RUNTIMES, *SHORT, *words, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((folder / "lines.txt").read_text().splitlines()) == 2
    return folder / "runs", done.stdout


@pytest.fixture(scope="module")
def swept(python: Python, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the same of a sweep whose speeds were compared."""
    return sweep(python, data, tmp_path_factory.mktemp("swept"))


def test_the_sweep_s_table_has_the_benchmark_s_column_and_the_engine_s_row_over_a_sample(
    python: Python, data: Path, tmp_path: Path
) -> None:
    results, printed = sweep(python, data, tmp_path, "comparison.enabled=false", "sample=8")
    head = next(line for line in printed.splitlines() if line.startswith("runtime"))
    row = next(line for line in printed.splitlines() if line.startswith("patient"))
    assert " recall" in head
    assert " ± " in row
    drawn = [path.read_text() for path in results.glob("*/items-recall.jsonl")]
    ids = [[json.loads(line)["id"] for line in text.splitlines()] for text in drawn]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert len(ids[0]) == 8
    records = [json.loads(path.read_text())["benchmarks"] for path in results.glob("*/record.json")]
    parameters = [entry["parameters"] for entries in records for entry in entries if entry["benchmark"] == "recall"]
    assert parameters == [{"sample": 8, "sample_seed": 0, "sample_of": 12}] * 2


@pytest.mark.slow
def test_rows_and_page_hold_what_is_derived_from_its_score(swept: tuple[Path, str], python: Python) -> None:
    results, _ = swept
    rows = json.loads(python("experiments.report", str(results), "--format", "json").stdout)
    patient = next(row for row in rows if row["runtime"] == "patient")
    assert patient["recall_share_percent_of_reference"] == pytest.approx(100)
    assert (patient["recall_flips_ratio"], patient["recall_output_match_rate"]) == (0, 1)
    assert patient["recall_share_difference_low"] < 0 < patient["recall_share_difference_high"]
    assert patient["recall_share_items"] == 12
    page = (results / "report.html").read_text()
    assert 'data-key="recall_share"' in page
    assert "speedup_ratio|recall_share" in page  # a Pareto front
    assert "Texts that contain the answer" in page


@pytest.mark.slow
def test_advice_keeps_its_score(swept: tuple[Path, str], python: Python) -> None:
    results, _ = swept
    done = python("experiments.advise", str(results), "--goal", "memory", "--min-accuracy", "0.9")
    assert "of the reference's recall" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_gate_limits_its_score_and_the_axis(python: Python, data: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(GATE)
    words = [f"gate={tmp_path / 'ours.yaml'}", "runtime=patient", "runtime/weights=full"]
    words += ["benchmark=[latency,recall]", f"benchmark.recall.data={data}", *SHORT]
    done = python("experiments.gate", *words, f"results_dir={tmp_path / 'runs'}")
    assert "reference.accuracy.recall" in done.stdout, done.stdout + done.stderr
    assert "reference.longest" in done.stdout
    assert "95 % of tokens within" in done.stdout


def test_help_and_mistakes_name_them(python: Python) -> None:
    text = python("experiments.run", "--help").stdout
    assert "recall" in next(line for line in text.splitlines() if line.startswith("  benchmark:"))
    done = python("experiments.run", "benchmark=[recall]")
    assert (done.returncode, done.stderr) == (
        2,
        "error: benchmark.recall.data is missing: set benchmark.recall.data=…\n",
    )
    done = python("experiments.run", "benchmark=[recall]", "benchmark.recall.data=nowhere.jsonl")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
