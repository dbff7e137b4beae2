"""Hands each record to the sinks that are configured, and keeps their failures away from the sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from runtime_matrix.experiments.config import MonitoringConfig
from runtime_matrix.experiments.records.schema import Record, Result


class Sink(Protocol):
    def start(self, total: int) -> None: ...

    def record(self, record: Record) -> None: ...

    def compared(self, results: Sequence[Result]) -> None:
        """Take all records once more, with the speeds and answers that were compared after the last cell."""

    def close(self) -> None: ...


class Sinks:
    """All sinks as one. A failing sink is named once on stderr, and not asked again."""

    def __init__(self, sinks: Sequence[tuple[str, Callable[[], Sink]]], say: Callable[[str], None] | None = None):
        self._say = say or (lambda line: print(line, file=sys.stderr))
        self._sinks: dict[str, Sink] = {}
        for name, make in sinks:
            self._guarded(name, lambda name=name, make=make: self._sinks.update({name: make()}))  # type: ignore[misc]

    def start(self, total: int) -> None:
        for name, sink in list(self._sinks.items()):
            self._guarded(name, lambda sink=sink: sink.start(total))  # type: ignore[misc]

    def record(self, record: Record) -> None:
        for name, sink in list(self._sinks.items()):
            self._guarded(name, lambda sink=sink: sink.record(record))  # type: ignore[misc]

    def compared(self, results: Sequence[Result]) -> None:
        for name, sink in list(self._sinks.items()):
            self._guarded(name, lambda sink=sink: sink.compared(results))  # type: ignore[misc]

    def close(self) -> None:
        for name, sink in list(self._sinks.items()):
            self._guarded(name, sink.close)

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a stranger's client: whatever it raises, the cell is measured
            self._sinks.pop(name, None)
            self._say(f"{name} hears no more: {type(error).__name__}: {error}")


def configured(options: MonitoringConfig) -> Sinks:
    """Return the sinks that the configuration and the environment ask for; their packages are imported here."""
    wanted: list[tuple[str, Callable[[], Sink]]] = []
    if options.prometheus_file is not None or options.prometheus_port is not None:
        wanted.append(("prometheus", lambda: _prometheus(options)))
    if any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        wanted.append(("opentelemetry", _opentelemetry))
    if options.mlflow is not None:
        wanted.append(("mlflow", lambda: _mlflow(str(options.mlflow))))
    return Sinks(wanted)


def _prometheus(options: MonitoringConfig) -> Sink:
    from runtime_matrix.experiments.monitoring.prometheus import Prometheus

    return Prometheus(options.prometheus_file, options.prometheus_port, options.prometheus_linger_s)


def _opentelemetry() -> Sink:
    from runtime_matrix.experiments.monitoring.opentelemetry import Spans

    return Spans.to_collector()


def _mlflow(uri: str) -> Sink:
    from runtime_matrix.experiments.monitoring.mlflow import Mlflow

    return Mlflow(uri)
