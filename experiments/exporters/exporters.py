"""Hands each record to the exporters that are configured, and keeps their failures away from the sweep."""

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
    """All exporters as one. One that fails is named once on stderr, and not called again."""

    def __init__(self, makes: Mapping[str, _Make], say: Callable[[str], None] | None = None):
        self._say = say or _print_error
        self._exporters: dict[str, Exporter[Any]] = {}
        for name, make in makes.items():
            self._guarded(name, partial(self._add, name, make))

    @property
    def names(self) -> list[str]:
        """Return the names of those that work."""
        return list(self._exporters)

    def start(self, total: int) -> None:
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.start, total))

    def record(self, record: Record) -> None:
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.record, record))

    def compared(self, results: Sequence[Result]) -> None:
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, partial(exporter.compared, results))

    def close(self) -> None:
        for name, exporter in list(self._exporters.items()):
            self._guarded(name, exporter.close)

    def _add(self, name: str, make: _Make) -> None:
        exporter = make()
        if exporter is not None:
            self._exporters[name] = exporter

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a stranger's client: whatever it raises, the cell is measured
            self._exporters.pop(name, None)
            self._say(f"{name} exporter disabled: {type(error).__name__}: {error}")


def configured(monitoring: JsonObject, registry: Registry | None = None) -> Exporters:
    """Return the exporters that the configuration and the environment ask for; their packages are imported here.

    UserError for keys that no exporter has, and for values that it does not take.

    Packages whose exporter cannot be used are named on stderr, one line each.
    """
    registry = registry or installed()
    configs = registry.configs(monitoring, "monitoring")
    for line in registry.broken:
        _print_error(line)
    return Exporters({name: partial(registry.exporters[name].from_config, config) for name, config in configs.items()})


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)
