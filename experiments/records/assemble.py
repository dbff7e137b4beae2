"""Builds the record of a cell from the events of its journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.audit import Probe
from runtime_matrix.experiments.records.schema import (
    SCHEMA_VERSION,
    Entry,
    Failure,
    Fit,
    Freed,
    HardwarePeak,
    Load,
    MemoryEstimate,
    MemoryTrace,
    Overlap,
    Record,
    Replay,
    SecondTry,
    Status,
    typed,
)
from runtime_matrix.experiments.records.sharding import Sharding

T = TypeVar("T")


def assemble(
    events: Sequence[JsonObject],
    *,
    status: Status,
    reason: str | None,
    exit_code: int | None,
    finished_at: str | None = None,
) -> Record:
    """Return the record of a cell that ended with this status. The first event is the cell's identity.

    Runtimes may declare and count anything, so an event of the wrong type is left out and the cell's status becomes
    `error` with the reason. Raises ValueError if the journal does not begin with a cell.
    """
    first = events[0]
    if first["event"] != "cell":
        raise ValueError(f"a journal must begin with the event cell; found {first['event']!r}")
    parts = _Parts(events)
    content = {
        **first["cell"],
        "schema_version": SCHEMA_VERSION,
        "exit_code": exit_code,
        "finished_at": finished_at,
        "load": parts.last(Load, "load"),
        "benchmarks": parts.all(Entry, "benchmark"),
        "hardware_peak": parts.last(HardwarePeak, "hardware_peak", "ceiling"),  # its earlier name
        "jobs": {event["name"]: event["wall_s"] for event in events if event["event"] == "job"},
        "jobs_cpu_s": {event["name"]: event.get("cpu_s") for event in events if event["event"] == "job"},
        "memory_trace": parts.last(MemoryTrace, "memory_trace"),
        "replay": parts.last(Replay, "replay"),
        "probe": parts.last(Probe, "probe"),
        "fit": parts.last(Fit, "fit"),
        "overlap": parts.last(Overlap, "overlap"),
        "freed": parts.last(Freed, "freed"),
        "memory_estimate": parts.last(MemoryEstimate, "memory_estimate"),
        "shards": parts.last(Sharding, "shards"),
        "second_try": parts.last(SecondTry, "second_try"),
        "failures": parts.all(Failure, "failed", "no_reference"),
    }
    if parts.problem is not None and status == "ok":
        status, reason = "error", parts.problem
    return typed({**content, "status": status, "reason": reason}, Record)


class _Parts:
    """The typed events of a journal. `problem` describes the first event of the wrong type in one line."""

    def __init__(self, events: Sequence[JsonObject]):
        self._events = events
        self.problem: str | None = None

    def all(self, kind: type[T], *names: str) -> list[T]:
        """Return the events with one of these names, without those of the wrong type."""
        parts = []
        for event in self._events:
            if event["event"] in names:
                try:
                    parts.append(typed(event, kind))
                except ValueError as error:
                    name = event.get("benchmark", event["event"])
                    self.problem = self.problem or f"{name} recorded a value of the wrong type: {error}"
        return parts

    def last(self, kind: type[T], *names: str) -> T | None:
        """Return the last such event; None if there is none."""
        parts = self.all(kind, *names)
        return parts[-1] if parts else None
