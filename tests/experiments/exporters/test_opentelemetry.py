from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra monitoring")
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime_matrix.experiments.exporters.opentelemetry import OpenTelemetry
from tests.experiments.recorded import make_record


def test_a_cell_is_a_span_with_its_jobs_phases_and_benchmarks_inside() -> None:
    spans = InMemorySpanExporter()
    exporter = OpenTelemetry(spans)
    exporter.record(make_record("eager"))
    exporter.record(make_record("offload", status="out_of_memory", reason="no room"))
    exporter.close()
    found = spans.get_finished_spans()
    cell, failed = (next(s for s in found if s.name == name) for name in ("cell eager", "cell offload"))
    inside = {span.name: span for span in found if span.parent and span.parent.span_id == cell.context.span_id}
    assert set(inside) == {
        *("hardware_peak", "reference", "measure", "replay", "load: weights"),
        *("latency", "throughput", "memory", "multiple_choice"),
    }
    assert inside["measure"].end_time - inside["measure"].start_time == pytest.approx(20e9)  # type: ignore[operator]
    assert inside["measure"].start_time == inside["reference"].end_time
    assert cell.start_time <= inside["hardware_peak"].start_time  # type: ignore[operator]
    assert cell.end_time - cell.start_time == pytest.approx(30e9)  # type: ignore[operator]
    assert failed.status.description == "no room"
    assert not failed.status.is_ok
