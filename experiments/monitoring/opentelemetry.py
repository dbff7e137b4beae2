"""OpenTelemetry: a span a cell, within it one a job, load phase and benchmark, made when the record is there.

Where the collector is stands in OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from runtime_matrix.experiments.records.schema import Record, Result

_NS = 1_000_000_000


class Spans:
    def __init__(self, exporter: SpanExporter):
        self._provider = TracerProvider(resource=Resource.create({"service.name": "runtime-matrix"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("experiments")

    @classmethod
    def to_collector(cls) -> Spans:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return cls(OTLPSpanExporter())

    def start(self, total: int) -> None:
        pass

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
            cell.set_status(trace.Status(trace.StatusCode.ERROR, record.reason))
        inside = trace.set_span_in_context(cell)
        at = start
        for name, seconds in record.jobs.items():  # one after the other, in this order
            self._span(name, at, seconds, inside)
            if name == "measure":
                self._measured(record, at, inside)
            at += seconds
        cell.end(int(max(at, end) * _NS))

    def compared(self, results: Sequence[Result]) -> None:
        pass

    def close(self) -> None:
        self._provider.shutdown()  # sends what is left

    def _measured(self, record: Record, start: float, context: Context) -> None:
        at = start + ((record.load.import_s if record.load else None) or 0.0)
        for name, seconds in (record.load.phases_s if record.load else {}).items():
            self._span(f"load: {name}", at, seconds, context)
            at += seconds
        for entry in record.benchmarks:
            if entry.ended_at is not None and entry.duration_s is not None:
                self._span(entry.benchmark, entry.ended_at - entry.duration_s, entry.duration_s, context)

    def _span(self, name: str, start: float, seconds: float, context: Context) -> None:
        span = self._tracer.start_span(name, context=context, start_time=int(start * _NS))
        span.end(int((start + seconds) * _NS))


def _epoch_s(when: str) -> float:
    return datetime.datetime.fromisoformat(when).timestamp()
