"""The interface of an exporter: its options, and the calls it receives during a sweep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record

Options = TypeVar("Options")


@dataclass(frozen=True)
class NoOptions:
    """The `Config` of an exporter without keys, which is enabled by the environment alone."""


class Exporter(ABC, Generic[Options]):
    """Exports the records of a sweep to another system.

    A subclass in a module of this folder has the module's name; one of another package has the name of its entry point
    in the group `runtime_matrix.exporters`. The module is imported for every sweep, so optional packages are imported
    in `from_config` or the constructor. An exporter that raises is reported on stderr and disabled.
    """

    Config: ClassVar[type[Any]] = NoOptions  # a frozen dataclass: the keys below `monitoring`, each with a default

    @classmethod
    @abstractmethod
    def from_config(cls, config: Options) -> Self | None:
        """Return the exporter, or None if neither the configuration nor the environment enables it."""

    @classmethod
    def check(cls, config: Options) -> None:
        """Raise UserError for keys that exclude each other. Called before any measurement."""

    def start(self, total: int) -> None:
        """Begin a sweep of `total` cells."""

    @abstractmethod
    def record(self, record: Record) -> None:
        """Export the record of a finished cell."""

    def compared(self, results: Sequence[Result]) -> None:
        """Export all results again, with the speeds and answers that are compared after the last cell."""

    def close(self) -> None:
        """End the sweep, also a failed one, and send pending data."""
