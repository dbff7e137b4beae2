"""The available exporters: the modules of this folder, and those that other packages register as entry points."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from runtime_matrix.experiments import exporters as folder
from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.exporters.exporter import Exporter


@dataclass(frozen=True)
class Registry:
    """Exporters by name, and the packages whose exporter cannot be used."""

    exporters: Mapping[str, type[Exporter[Any]]]
    broken: tuple[str, ...]  # one line per package, with the reason

    def configs(self, value: object, where: str) -> dict[str, object]:
        """Return each exporter's `Config` from its keys in a plain mapping. UserError for the first mistake."""
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        owners = self._owners(where)
        for key in value:
            if key not in owners:
                lines = "".join(f"; {line}" for line in self.broken)
                raise UserError(f"{where}.{key} is not a known key{did_you_mean(str(key), owners)}{lines}")
        configs: dict[str, object] = {}
        for name, exporter in self.exporters.items():
            part = {key: value[key] for key in value if owners[key] == name}
            configs[name] = build(exporter.Config, part, where)
            exporter.check(configs[name])
        return configs

    def _owners(self, where: str) -> dict[str, str]:
        """Return the exporter of each key."""
        owners: dict[str, str] = {}
        for name, exporter in self.exporters.items():
            for part in fields(exporter.Config):
                if part.name in owners:
                    raise UserError(
                        f"{where}.{part.name} is a key of two exporters, {owners[part.name]} and {name}: "
                        "uninstall the package of one"
                    )
                owners[part.name] = name
        return owners


@cache
def installed() -> Registry:
    """Return the exporters of this installation. Each module is imported once per process, even if it is broken."""
    return find(plugins.registered(plugins.EXPORTERS).values())


def find(points: Iterable[EntryPoint]) -> Registry:
    """Import the exporters of this folder and of entry points. UserError if two have the same name."""
    exporters, broken = _built_in(), []
    for point in points:
        if point.name in exporters:
            raise UserError(f"two exporters are called {point.name}: uninstall the package {_package_of(point)}")
        try:
            exporters[point.name] = _load(point)
        except plugins.Broken as error:
            broken.append(f"the exporter {' '.join(str(error).split())}")
    return Registry(exporters, tuple(broken))


def _built_in() -> dict[str, type[Exporter[Any]]]:
    exporters: dict[str, type[Exporter[Any]]] = {}
    for info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{info.name}")
        kinds = [kind for kind in vars(module).values() if _is_exporter(kind) and kind.__module__ == module.__name__]
        if kinds:
            (exporters[info.name],) = kinds  # one per module
    return exporters


def _load(point: EntryPoint) -> type[Exporter[Any]]:
    kind: Any = plugins.load(point)
    prefix = f"{point.name} of the package {_package_of(point)} cannot be used"
    if not _is_exporter(kind):
        raise plugins.Broken(f"{prefix}: {point.value} is not a complete subclass of {Exporter.__module__}.Exporter")
    if not is_dataclass(kind.Config):
        raise plugins.Broken(f"{prefix}: its Config is not a dataclass")
    for part in fields(kind.Config):
        if part.default is MISSING and part.default_factory is MISSING:
            raise plugins.Broken(f"{prefix}: {part.name} of its Config has no default")
    try:
        kind.check(build(kind.Config, {}))
    except Exception as error:  # third-party code may raise anything
        raise plugins.Broken(f"{prefix}: {type(error).__name__}: {error}") from error
    return kind  # type: ignore[no-any-return]


def _is_exporter(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exporter) and not inspect.isabstract(kind)


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
