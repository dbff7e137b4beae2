"""The configured exporters of a sweep; their failures do not affect it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.exporters.exporter import Exporter
from runtime_matrix.experiments.exporters.registry import Registry, installed
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record

_Make = Callable[[], Exporter[Any] | None]


class Exporters:
    """All exporters behind one interface. A failing exporter is reported once on stderr and disabled."""

    def __init__(self, makes: Mapping[str, _Make], log: Callable[[str], None] | None = None):
        self._log = log or _print_error
        self._exporters: dict[str, Exporter[Any]] = {}
        for name, make in makes.items():
            self._guarded(name, partial(self._add, name, make))

    @property
    def names(self) -> list[str]:
        """Return the names of the exporters that are enabled and have not failed."""
        return list(self._exporters)

    def start(self, total: int) -> None:
        """Begin a sweep of `total` cells in every exporter."""
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.start, total))

    def record(self, record: Record) -> None:
        """Export the record of a finished cell to every exporter."""
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.record, record))

    def compared(self, results: Sequence[Result]) -> None:
        """Export all results again, with speeds and answers compared, to every exporter."""
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.compared, results))

    def close(self) -> None:
        """End the sweep in every exporter."""
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, exporter.close)

    def _add(self, name: str, make: _Make) -> None:
        exporter = make()
        if exporter is not None:
            self._exporters[name] = exporter

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # third-party clients may raise anything; the sweep goes on
            self._exporters.pop(name, None)
            self._log(f"{name} exporter disabled: {type(error).__name__}: {error}")


def configured(monitoring: JsonObject, registry: Registry | None = None) -> Exporters:
    """Return the exporters that the configuration and the environment enable; their packages are imported here.

    Packages whose exporter cannot be used are reported on stderr, one line each. UserError for unknown keys and invalid
    values.
    """
    registry = registry or installed()
    configs = registry.configs(monitoring, "monitoring")
    for line in registry.broken:
        _print_error(line)
    return Exporters({name: partial(registry.exporters[name].from_config, config) for name, config in configs.items()})


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)
