"""OpenTelemetry: one span per cell, with child spans per job, load phase and benchmark, sent when the cell has ended.

It is enabled by OpenTelemetry's own environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from typing_extensions import override

from runtime_matrix.experiments.exporters.exporter import Exporter, NoOptions
from runtime_matrix.experiments.records.schema import Record

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

_NS = 1_000_000_000
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class OpenTelemetry(Exporter[NoOptions]):
    """Exports spans through an OTLP exporter, in batches."""

    def __init__(self, spans: SpanExporter):
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._trace = trace
        self._provider = TracerProvider(resource=Resource.create({"service.name": "runtime-matrix"}))
        self._provider.add_span_processor(BatchSpanProcessor(spans))
        self._tracer = self._provider.get_tracer("experiments")

    @classmethod
    @override
    def from_config(cls, config: NoOptions) -> OpenTelemetry | None:
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return cls(OTLPSpanExporter())

    @override
    def record(self, record: Record) -> None:
        start, end = _epoch_s(record.started_at), _epoch_s(record.finished_at or record.started_at)
        attributes = {
            "runtime": record.runtime.name,
            "model": record.model.name,
            "hw": record.hw.name,
            "record_id": record.record_id,
            "status": record.status,
        }
        cell = self._tracer.start_span(f"cell {record.runtime.name}", start_time=int(start * _NS))
        cell.set_attributes(attributes)
        if record.status != "ok":
            cell.set_status(self._trace.Status(self._trace.StatusCode.ERROR, record.reason))
        inside = self._trace.set_span_in_context(cell)
        job_start = start
        for name, seconds in record.jobs.items():  # jobs run one after the other, in this order
            self._span(name, job_start, seconds, inside)
            if name == "measure":
                self._measured(record, job_start, inside)
            job_start += seconds
        cell.end(int(max(job_start, end) * _NS))

    @override
    def close(self) -> None:
        self._provider.shutdown()  # sends pending spans

    def _measured(self, record: Record, start: float, context: Context) -> None:
        phase_start = start + ((record.load.import_s if record.load else None) or 0.0)
        for name, seconds in (record.load.phases_s if record.load else {}).items():
            self._span(f"load: {name}", phase_start, seconds, context)
            phase_start += seconds
        for entry in record.benchmarks:
            if entry.ended_at is not None and entry.duration_s is not None:
                self._span(entry.benchmark, entry.ended_at - entry.duration_s, entry.duration_s, context)

    def _span(self, name: str, start: float, seconds: float, context: Context) -> None:
        span = self._tracer.start_span(name, context=context, start_time=int(start * _NS))
        span.end(int((start + seconds) * _NS))


def _epoch_s(when: str) -> float:
    return datetime.datetime.fromisoformat(when).timestamp()
