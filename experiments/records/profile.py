"""The profile of a cell, taken outside its timed runs and stored beside its record."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.records.schema import to_plain, typed
from runtime_matrix.experiments.records.store import write_atomic

PROFILE_FILE = "profile.json"
PROFILE_SCHEMA_VERSION = 1


class OperationTime(Struct, frozen=True, kw_only=True):
    """Time of an operation per call of the phase, as the engine's profiler reports it."""

    kind: str  # of `runtimes.operations.Kind`
    name: str
    seconds: float
    calls: float


class PhaseProfile(Struct, frozen=True, kw_only=True):
    """One call of a phase: its time without the profiler, and its operations under the profiler."""

    wall_s: float
    cpu_s: float  # child processes included
    threads_used: float | None = None  # CPU time of all threads over that of the busiest; None: unknown
    profiled_s: float | None = None  # wall time under the profiler; None: the engine has none
    operations: list[OperationTime] = []

    def kinds(self) -> dict[str, float]:
        """Return the seconds by kind of operation, and those `outside` them: Python, dispatch and waiting."""
        seconds: dict[str, float] = {}
        for operation in self.operations:
            seconds[operation.kind] = seconds.get(operation.kind, 0.0) + operation.seconds
        if self.profiled_s is not None:
            seconds["outside"] = max(0.0, self.profiled_s - sum(seconds.values()))
        return seconds


class Profile(Struct, frozen=True, kw_only=True):
    """The profile of a cell."""

    schema_version: int
    threads: int  # that the runtime was told to use
    phases: dict[str, PhaseProfile]  # prefill, and decode: one step
    counters: dict[str, int] = {}  # the runtime's, after all calls
    recompiles: int = 0  # graphs that were compiled after the warm-up


def write_profile(folder: Path, profile: Profile) -> None:
    """Write the profile beside the record in `folder`."""
    write_atomic(folder / PROFILE_FILE, json.dumps(to_plain(profile), indent=1, allow_nan=False) + "\n")


def read_profile(folder: Path) -> tuple[Profile | None, str | None]:
    """Return the profile beside the record in `folder`, and why it cannot be read; a missing one is no problem."""
    try:
        content = json.loads((folder / PROFILE_FILE).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema_version") != PROFILE_SCHEMA_VERSION:
            raise ValueError(f"it is not of schema {PROFILE_SCHEMA_VERSION}")
        profile = typed(content, Profile)
        if not all(phase.wall_s > 0 for phase in profile.phases.values()):
            raise ValueError("a wall time is not above 0")
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{PROFILE_FILE} cannot be read: {error}; profile the cell again"
    return profile, None
