"""A package that is installed beside ours adds a kind of weights and an engine: one class and one preset each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.installing import Python, install, python_with

CELL = ("runtime=patient", "runtime/weights=halved", "benchmark=[memory]", "model.architecture.num_hidden_layers=1")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Python:
    return python_with(install(tmp_path_factory.mktemp("installed"), "weights"))


@pytest.mark.slow
def test_a_cell_of_another_package_is_measured_and_shown(installed: Python, tmp_path: Path, artifacts: Path) -> None:
    results = tmp_path / "runs"
    words = (*CELL, "model=random", f"results_dir={results}", f"artifacts_dir={artifacts}")
    done = installed("experiments.run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = results.glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok"
    assert record["load"]["held"] == {"form": "dense", "keeps_values": False, "is_whole": True}
    assert record["load"]["build_phases"] == ["fold"]
    assert "folded" in record["load"]["notes"]
    assert record["environment"]["versions"]["halved-weights"] == "1.0"
    assert "hints" not in record["config"]["runtime"]
    shown = installed("experiments.report", str(results), "--format", "json")
    (row,) = json.loads(shown.stdout)
    assert (row["runtime"], row["engine"], row["weights"]) == ("patient+halved", "patient", "halved")
    assert "patient+halved" in done.stdout
    advice = installed("experiments.advise", str(results))
    assert "an engine of another package" in advice.stdout, advice.stdout + advice.stderr


def test_presets_of_another_package_are_listed_and_suggested(installed: Python) -> None:
    shown = installed("experiments.run", "--help").stdout
    lists = dict(line.strip().split(": ", 1) for line in shown.splitlines() if line.startswith("  runtime"))
    assert "patient" in lists["runtime"].split(", ")
    assert "halved" in lists["runtime/weights"].split(", ")
    done = installed("experiments.run", "runtime=patientt")
    assert done.returncode == 2
    assert done.stderr == "error: runtime=patientt is not an option; did you mean 'patient'?\n"
