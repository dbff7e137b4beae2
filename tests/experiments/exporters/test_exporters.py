"""An exporter that fails, at whatever moment and with whatever, is named once and fails nothing else."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from runtime_matrix.experiments.exporters.exporter import Exporter, NoOptions
from runtime_matrix.experiments.exporters.exporters import Exporters, configured
from runtime_matrix.experiments.exporters.registry import Registry
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import make_record, sweep


class Recorder(Exporter[NoOptions]):
    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[str] = []
        self._fails_at = fails_at

    @classmethod
    @override
    def from_config(cls, config: NoOptions) -> Recorder:
        return cls()

    def _add(self, call: str) -> None:
        self.calls.append(call)
        if call == self._fails_at:
            raise ConnectionError("the other side is gone")

    @override
    def start(self, total: int) -> None:
        self._add("start")

    @override
    def record(self, record: Record) -> None:
        self._add("record")

    @override
    def compared(self, results: Sequence[Result]) -> None:
        self._add("compared")

    @override
    def close(self) -> None:
        self._add("close")


@pytest.mark.parametrize("moment", ["start", "record", "compared", "close"])
def test_a_failing_exporter_does_not_affect_the_others(moment: str) -> None:
    broken, whole, lines = Recorder(moment), Recorder(), list[str]()
    exporters = Exporters({"broken": lambda: broken, "whole": lambda: whole}, lines.append)
    exporters.start(2)
    exporters.record(make_record("eager"))
    exporters.record(make_record("eager"))
    exporters.compared([])
    exporters.close()
    assert whole.calls == ["start", "record", "record", "compared", "close"]
    assert lines == ["broken exporter disabled: ConnectionError: the other side is gone"]
    assert broken.calls[-1] == moment


def test_an_exporter_that_cannot_be_created_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Recorder:
        raise ImportError("No module named 'mlflow'")

    Exporters({"mlflow": make}).record(make_record("eager"))
    assert capsys.readouterr().err == "mlflow exporter disabled: ImportError: No module named 'mlflow'\n"


def test_an_unusable_package_is_reported_and_the_others_work(capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry({"recorder": Recorder}, ("the exporter x of the package y cannot be loaded: KeyError: z",))
    exporters = configured({}, registry)
    assert exporters.names == ["recorder"]
    assert capsys.readouterr().err == "the exporter x of the package y cannot be loaded: KeyError: z\n"


def test_nothing_is_exported_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert configured({"prometheus_file": None, "prometheus_port": None, "mlflow": None}).names == []
    assert configured({}).names == []


def test_the_environment_enables_opentelemetry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    assert configured({}).names == []
    assert capsys.readouterr().err.startswith("opentelemetry exporter disabled: ModuleNotFoundError: ")


def test_mlflow_has_the_figures_of_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its client is replaced: it is large, and what matters is what it gets."""
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
    exporters = configured({"mlflow": "file:here"})
    results = read(sweep(tmp_path, has_garbage=True))[0]
    by_name = {result.record.runtime.name: result for result in results}
    exporters.record(results[0].record)
    told = dict(calls)
    assert told["set_tracking_uri"] == "file:here"
    assert told["start_run"] == "run-1-eager"
    assert told["log_params"]["runtime"] == "eager"
    assert told["log_metrics"]["mcq_accuracy"] == 0.8
    assert all(isinstance(value, float) for value in told["log_metrics"].values())
    exporters.record(by_name["onnxruntime"].record)
    assert "speedup_ratio" not in dict(calls)["log_metrics"]
    exporters.compared(results[:2])
    told = dict(calls)
    assert told["start_run"] == "of-mlflow"
    assert told["log_metrics"]["speedup_ratio"] == pytest.approx(2.5, rel=0.02)
    assert told["set_tags"] == {"status": "ok", "reason": ""}
    exporters.record(by_name["t_garbage"].record)
    exporters.compared([by_name["t_garbage"]])
    assert dict(calls)["set_tags"]["status"] == "wrong output"
    assert "1,296 of 1,296 timed tokens" in dict(calls)["set_tags"]["reason"]
