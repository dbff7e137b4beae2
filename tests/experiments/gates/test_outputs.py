from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.measure import GateResult
from runtime_matrix.experiments.gates.outputs import report_of, text_lines, write_outputs

GATE: GateConfig = build(GateConfig, compose_gate("ci", []), "gate")
FOUND = [
    LimitResult(
        "cell-a", "reference.speedup.decode", "pass", "fast | enough", "× faster", "higher", 2.0, 1.9, 2.1, 1.0, 6
    ),
    LimitResult("cell-a", "baseline.memory.weight_bytes", "fail", "grew", "bytes", "lower", 5e6, limit=4e6, n=1),
    LimitResult("cell-b", "cell", "inconclusive", "not measured: unsupported: <no GPU>"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    write_outputs(report_of(GateResult(FOUND, [], False), GATE, "python -m experiments.gate"), tmp_path / "gate")
    return tmp_path / "gate"


def test_failed_limits_come_first() -> None:
    lines = text_lines(report_of(GateResult(FOUND, [], False), GATE, ""))
    assert lines[0] == "gate ci: fail (1 fail, 1 inconclusive, 1 pass)"
    assert "cell-a: grew" in lines[1]


def test_junit_counts_failures_and_errors(folder: Path) -> None:
    suite = ElementTree.parse(folder / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    error = suite.find(".//error")
    assert error is not None
    assert error.get("message") == "not measured: unsupported: <no GPU>"


def test_each_benchmark_array_has_one_direction(folder: Path) -> None:
    bigger = json.loads((folder / "github-benchmark-bigger.json").read_text())
    smaller = json.loads((folder / "github-benchmark-smaller.json").read_text())
    assert [(one["name"], one["value"], one["range"]) for one in bigger] == [
        ("cell-a reference.speedup.decode", 2.0, "1.9 to 2.1")
    ]
    assert [(one["unit"], one["value"]) for one in smaller] == [("bytes", 5e6)]
    metrics = json.loads((folder / "bencher.json").read_text())
    assert metrics["cell-a"]["reference.speedup.decode"] == {"value": 2.0, "lower_value": 1.9, "upper_value": 2.1}


def test_the_summary_is_appended_to_the_workflow_s(folder: Path) -> None:
    text = (folder / "summary.md").read_text()
    assert text == (folder.parent / "step.md").read_text()
    assert "❌ gate ci: fail" in text
    assert r"fast \| enough" in text
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "fail"


def test_messages_are_escaped(folder: Path) -> None:
    text = (folder / "summary.md").read_text()
    assert "unsupported: &lt;no GPU>" in text


def test_a_direction_without_a_figure_has_no_file(folder: Path) -> None:
    """github-action-benchmark ends with an error over an array without entries."""
    write_outputs(report_of(GateResult(FOUND[:1], [], False), GATE, "python -m experiments.gate"), folder)
    assert (folder / "github-benchmark-bigger.json").exists()
    assert not (folder / "github-benchmark-smaller.json").exists()


def test_bencher_s_schema_and_limits_of_length(folder: Path) -> None:
    """See https://bencher.dev/docs/reference/bencher-metric-format; a measure has at most 64 characters."""
    metrics = json.loads((folder / "bencher.json").read_text())
    assert all(
        set(metric) <= {"value", "lower_value", "upper_value"} for of in metrics.values() for metric in of.values()
    )
    assert all(isinstance(metric["value"], float) for of in metrics.values() for metric in of.values())
    assert max(map(len, GATE.names(has_baseline=True))) <= 64


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_outputs(report_of(GateResult(FOUND, [], False), GATE, ""), tmp_path / "file" / "gate")
