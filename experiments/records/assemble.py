"""From a cell's journal to its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from runtime_matrix.experiments.plain_json import JsonObject
from runtime_matrix.experiments.records.schema import (
    SCHEMA_VERSION,
    Entry,
    Failure,
    Fit,
    HardwarePeak,
    Load,
    MemoryTrace,
    Overlap,
    Record,
    Replay,
    Status,
    typed,
)

T = TypeVar("T")


def assemble(
    events: Sequence[JsonObject],
    *,
    status: Status,
    reason: str | None,
    exit_code: int | None,
    finished_at: str | None = None,
) -> Record:
    """Return the record of a cell that came to this end. The first event is the cell's identity.

    ValueError for the journal of something else, and for events that are not of this program.
    """
    first = events[0]
    if first["event"] != "cell":
        raise ValueError(f"a journal begins with the cell, not with {first['event']!r}")
    content = {
        **first["cell"],
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "reason": reason,
        "exit_code": exit_code,
        "finished_at": finished_at,
        "load": _last(events, Load, "load"),
        "benchmarks": _all(events, Entry, "benchmark"),
        "hardware_peak": _last(events, HardwarePeak, "hardware_peak", "ceiling"),
        "jobs": {event["name"]: event["wall_s"] for event in events if event["event"] == "job"},
        "memory_trace": _last(events, MemoryTrace, "memory_trace"),
        "replay": _last(events, Replay, "replay"),
        "fit": _last(events, Fit, "fit"),
        "overlap": _last(events, Overlap, "overlap"),
        "failures": _all(events, Failure, "failed", "no_reference"),
    }
    return typed(content, Record)


def _all(events: Sequence[JsonObject], kind: type[T], *names: str) -> list[T]:
    return [typed(event, kind) for event in events if event["event"] in names]


def _last(events: Sequence[JsonObject], kind: type[T], *names: str) -> T | None:
    found = _all(events, kind, *names)
    return found[-1] if found else None
