"""The contract of a launcher: one file, in this folder or in another package, that declares all of it.

The file defines a subclass of `Launcher` and binds an instance to `LAUNCHER`. Its options are documented in
`conf/launcher/NAME.yaml`. A launcher starts the process `unit_command` on some machine and reports how the process
fares. It knows neither cells nor records: the process reads what to do from its folder and writes its outcome there.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from runtime_matrix.experiments.records.schema import Status

C = TypeVar("C")  # the dataclass of a launcher's options
Phase = Literal["waiting", "running", "ended", "lost"]
MODULE = "runtime_matrix.experiments.sweeps.unit"  # started by name: launchers are imported by what it runs


@dataclass(frozen=True)
class Unit:
    """A part of a sweep that one process computes: a cell, a shard of a cell, or a comparison."""

    name: str  # unique in the sweep
    folder: Path  # holds what to do, and the outcome
    token: str  # distinguishes the unit from earlier ones in the same folder
    needs: tuple[str, ...] = ()  # the units that must have ended before
    is_timed: bool = False  # times are measured, so that nothing else may run on the node
    limit_s: float = 0.0  # longest duration
    wants_gpu: bool = False


@dataclass(frozen=True)
class JobState:
    """The state of a job. `status` and `reason` describe an ending; they count if the job left no outcome."""

    phase: Phase  # lost: ended by the node or the scheduler, so that another try is worth it
    status: Status = "crash"
    reason: str | None = None
    node: str | None = None


class Unreachable(Exception):
    """The scheduler does not answer; the message is the reason in one line. It may answer later."""


class Scheduler(ABC):
    """Starts units as jobs and reports on them. No method waits longer than some seconds."""

    poll_s: float = 1.0  # between two calls of `poll`
    patience_s: float = 600.0  # for a scheduler that is unreachable
    most_jobs: int = 1000  # submitted at a time
    settle_s: float = 15.0  # until what a node has written is visible here: NFS keeps names for some seconds

    exclusive: str = "timed"  # which units have a node to themselves: timed, all or none

    def is_alone(self, unit: Unit) -> bool:
        """Return whether nothing else is scheduled on the node of the unit."""
        return self.exclusive == "all" or (self.exclusive == "timed" and unit.is_timed)

    @abstractmethod
    def submit(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, str]]:
        """Start the units and yield each with the id of its job, as soon as that is known.

        Unreachable if the scheduler does not answer, UserError if it refuses.
        """

    @abstractmethod
    def poll(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        """Return the state of each job; a job that the scheduler does not know is lost. Unreachable as for `submit`."""

    @abstractmethod
    def cancel(self, jobs: Sequence[str], only_waiting: bool = False) -> None:
        """End jobs; with `only_waiting` those that have not started. Unreachable as for `submit`."""

    def close(self) -> None:
        """Free what `Launcher.connect` acquired; jobs of a cluster keep running."""
        return


class Launcher(ABC, Generic[C]):
    """A way to start units. `connect` returns None if the command itself computes the cells, one after the other."""

    name: ClassVar[str]
    about: ClassVar[str]
    Config: ClassVar[type[Any]]

    @abstractmethod
    def connect(self, config: C, results: Path) -> Scheduler | None:
        """Return the scheduler. UserError in one line if it is not installed or cannot serve the options.

        `results` is the folder of all output. Its subfolder `units` may hold files of the launcher.
        """


def unit_command(unit: Unit) -> list[str]:
    """Return the command of the process that computes a unit, on a node with the same installation."""
    return [sys.executable, "-m", MODULE, str(unit.folder), unit.token]
