"""A sink that fails, at whatever moment and with whatever, is named once and fails nothing else."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config import MonitoringConfig
from runtime_matrix.experiments.monitoring.sinks import Sinks, configured
from runtime_matrix.experiments.records.schema import Record, Result
from runtime_matrix.experiments.report import read
from tests.experiments.recorded import make_record, sweep

NOBODY = MonitoringConfig(prometheus_file=None, prometheus_port=None, prometheus_linger_s=0, mlflow=None)


class Recorder:
    def __init__(self, fails_at: str = "") -> None:
        self.heard: list[str] = []
        self._fails_at = fails_at

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self._fails_at:
            raise ConnectionError("the other side is gone")

    def start(self, total: int) -> None:
        self._hear("start")

    def record(self, record: Record) -> None:
        self._hear("record")

    def compared(self, results: Sequence[Result]) -> None:
        self._hear("compared")

    def close(self) -> None:
        self._hear("close")


@pytest.mark.parametrize("moment", ["start", "record", "compared", "close"])
def test_a_failing_sink_leaves_the_others_alone(moment: str) -> None:
    broken, whole, said = Recorder(moment), Recorder(), list[str]()
    sinks = Sinks([("broken", lambda: broken), ("whole", lambda: whole)], said.append)
    sinks.start(2)
    sinks.record(make_record("eager"))
    sinks.record(make_record("eager"))
    sinks.compared([])
    sinks.close()
    assert whole.heard == ["start", "record", "record", "compared", "close"]
    assert said == ["broken hears no more: ConnectionError: the other side is gone"]
    assert broken.heard[-1] == moment


def test_a_sink_that_cannot_be_made_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Recorder:
        raise ImportError("No module named 'mlflow'")

    Sinks([("mlflow", make)]).record(make_record("eager"))
    assert capsys.readouterr().err == "mlflow hears no more: ImportError: No module named 'mlflow'\n"


def test_nobody_is_told_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert configured(NOBODY)._sinks == {}


def test_mlflow_is_told_the_rows_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its client is replaced: it is large, and what matters is what it is handed."""
    calls: list[tuple[str, Any]] = []

    class Run:
        info = types.SimpleNamespace(run_id="of-mlflow")

        def __enter__(self) -> Run:
            return self

        def __exit__(self, *error: object) -> None: ...

    fake = types.ModuleType("mlflow")
    for name in ("set_tracking_uri", "set_experiment", "log_params", "log_metrics", "set_tags"):
        setattr(fake, name, lambda value, name=name: calls.append((name, value)))

    def start_run(run_name: str = "", run_id: str = "") -> Run:
        calls.append(("start_run", run_name or run_id))
        return Run()

    fake.start_run = start_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    sinks = configured(
        MonitoringConfig(prometheus_file=None, prometheus_port=None, prometheus_linger_s=0, mlflow="file:here")
    )
    results = read(sweep(tmp_path, has_garbage=True))[0]
    by_name = {result.record.runtime.name: result for result in results}
    sinks.record(results[0].record)
    told = dict(calls)
    assert told["set_tracking_uri"] == "file:here"
    assert told["start_run"] == "run-1-eager"
    assert told["log_params"]["runtime"] == "eager"
    assert told["log_metrics"]["mcq_accuracy"] == 0.8
    assert all(isinstance(value, float) for value in told["log_metrics"].values())
    sinks.record(by_name["onnxruntime"].record)
    assert "speedup_ratio" not in dict(calls)["log_metrics"]
    sinks.compared(results[:2])
    told = dict(calls)
    assert told["start_run"] == "of-mlflow"
    assert told["log_metrics"]["speedup_ratio"] == pytest.approx(2.5, rel=0.02)
    assert told["set_tags"] == {"status": "ok", "reason": ""}
    sinks.record(by_name["t_garbage"].record)
    sinks.compared([by_name["t_garbage"]])
    assert dict(calls)["set_tags"]["status"] == "wrong output"
    assert "216 of 216 timed tokens" in dict(calls)["set_tags"]["reason"]
