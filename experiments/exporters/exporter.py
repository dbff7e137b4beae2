"""The contract of an exporter: what it declares, and what it is given while a sweep runs."""

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
    """The `Config` of an exporter without keys: the environment alone asks for it."""


class Exporter(ABC, Generic[Options]):
    """Brings the records of a sweep to another system.

    The subclass in a module of this folder is found under the module's name, one of another package under the name of
    its entry point in the group `runtime_matrix.exporters`. Its module is imported for every sweep: packages that may
    be missing are imported where the exporter is made. An exporter that raises is named on stderr and not called again.
    """

    Config: ClassVar[type[Any]] = NoOptions  # a frozen dataclass: the keys below `monitoring`, each with a default

    @classmethod
    @abstractmethod
    def from_config(cls, config: Options) -> Self | None:
        """Return the exporter, or None where neither the configuration nor the environment asks for it."""

    @classmethod
    def check(cls, config: Options) -> None:
        """Refuse keys that do not go together, before anything is measured. Raises UserError."""

    def start(self, total: int) -> None:
        """Begin a sweep of `total` cells."""

    @abstractmethod
    def record(self, record: Record) -> None:
        """Take the record of a cell that has ended."""

    def compared(self, results: Sequence[Result]) -> None:
        """Take all records once more, with the speeds and answers that were compared after the last cell."""

    def close(self) -> None:
        """End the sweep, also one that failed: send what is left."""
