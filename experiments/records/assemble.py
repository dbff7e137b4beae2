"""From a cell's journal to its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SCHEMA_VERSION = 1


def assemble(
    events: Sequence[dict[str, Any]], *, status: str, reason: str | None, exit_code: int | None
) -> dict[str, Any]:
    """Return the record of a cell that came to this end. The first event is the cell's identity."""
    first = events[0]
    if first["event"] != "cell":
        raise ValueError(f"a journal begins with the cell, not with {first['event']!r}")
    loads = [_fields(event) for event in events if event["event"] == "load"]
    peaks = [_fields(event) for event in events if event["event"] in ("hardware_peak", "ceiling")]  # its earlier name
    jobs = {event["name"]: event["wall_s"] for event in events if event["event"] == "job"}
    traces = [_fields(event) for event in events if event["event"] == "memory_trace"]
    replays = [_fields(event) for event in events if event["event"] == "replay"]
    overlaps = [_fields(event) for event in events if event["event"] == "overlap"]
    fits = [_fields(event) for event in events if event["event"] == "fit"]
    return {
        "schema_version": SCHEMA_VERSION,
        **first["cell"],
        "status": status,
        "reason": reason,
        "exit_code": exit_code,
        "load": loads[-1] if loads else None,
        "benchmarks": [_fields(event) for event in events if event["event"] == "benchmark"],
        "hardware_peak": peaks[-1] if peaks else None,
        "jobs": jobs,
        "memory_trace": traces[-1] if traces else None,
        "replay": replays[-1] if replays else None,
        "fit": fits[-1] if fits else None,
        "overlap": overlaps[-1] if overlaps else None,
        "failures": [_fields(event) for event in events if event["event"] in ("failed", "no_reference")],
    }


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "event"}
