"""The journal of a proof: one line per launch, gate and gate of accuracy, written as they end."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.schema import typed

JOURNAL = "journal.jsonl"
Slowdown = tuple[str, float]  # the kind and the size of an injection


class Stamp(Struct, frozen=True, kw_only=True):
    """The time of a measurement, with facts of the machine and the program."""

    at: str  # UTC, ISO 8601
    commit: str | None = None
    instruction_sets: list[str] | None = None
    instruction_limits: dict[str, str] | None = None


class LaunchEvent(Stamp, frozen=True, kw_only=True, tag_field="event", tag="launch"):
    """One launch of a runtime against copies of itself, slowed by each size."""

    runtime: str
    load: str
    log_ratios: dict[str, list[float]]  # by clock: one per size
    machine: MachineChange


class GateEvent(Stamp, frozen=True, kw_only=True, tag_field="event", tag="gate"):
    """One gate, from start to verdict."""

    load: str
    injection: Slowdown | None
    verdict: str
    was_repeated: bool
    launches: int
    seconds: float
    load_1min: float | None = None
    findings: list[tuple[str, str, str]]  # name, verdict, figures


class AccuracyFinding(Struct, frozen=True, kw_only=True):
    """The verdict on one limit of accuracy."""

    name: str
    verdict: str
    message: str


class AccuracyEvent(Stamp, frozen=True, kw_only=True, tag_field="event", tag="accuracy"):
    """One gate of accuracy."""

    weights: str
    verdict: str
    findings: list[AccuracyFinding]


Event = LaunchEvent | GateEvent | AccuracyEvent
E = TypeVar("E", LaunchEvent, GateEvent, AccuracyEvent)


def read_events(folder: Path) -> list[Event]:
    """Return the events of the journal in their order. ValueError for a malformed line."""
    return typed(read_journal(folder / JOURNAL), list[Event])


def kept(folder: Path, kind: type[E]) -> list[E]:
    """Return the events of one kind in their order."""
    return [event for event in read_events(folder) if isinstance(event, kind)]
