"""Find what installed packages add: benchmarks, strategies, judges, exporters, gate axes, and folders of presets.

A package declares in its own `pyproject.toml`:

    [project.entry-points."runtime_matrix.tasks"]      # benchmarks: see `tasks/task.py`
    [project.entry-points."runtime_matrix.strategies"] # strategies for programs: see `strategies/strategy.py`
    [project.entry-points."runtime_matrix.judges"]     # judges of texts: see `judges/judge.py`
    [project.entry-points."runtime_matrix.launchers"]  # where cells run: see `launchers/launcher.py`
    [project.entry-points."runtime_matrix.exporters"]  # destinations of results: see `exporters/exporter.py`
    [project.entry-points."runtime_matrix.gate_axes"]  # quantities that gates limit: see `gates/axes/`
    [project.entry-points."runtime_matrix.presets"]    # packages with folders of YAML, like `conf/`

Engines, weights and placements need only a preset, whose `target` names the class.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, TypeVar

from runtime_matrix.experiments.config.errors import UserError

TASKS = "runtime_matrix.tasks"
STRATEGIES = "runtime_matrix.strategies"
JUDGES = "runtime_matrix.judges"
LAUNCHERS = "runtime_matrix.launchers"
EXPORTERS = "runtime_matrix.exporters"
GATE_AXES = "runtime_matrix.gate_axes"
_PRESETS = "runtime_matrix.presets"


class Named(Protocol):
    """What is registered: something with a name."""

    @property
    def name(self) -> str:
        """The name by which it is chosen."""
        ...


N = TypeVar("N", bound=Named)


class Broken(Exception):
    """An entry point cannot be loaded; the message is one line with its name and the reason."""


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted; nothing is imported.

    UserError if two packages register one name: neither may silently replace the other.
    """
    points: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(f"{group}: {other.value} and {point.value} are both called {point.name}; uninstall one")
    return points


def load(point: EntryPoint) -> object:
    """Import and return the object of an entry point; Broken for any exception that the import raises."""
    try:
        loaded: object = point.load()
    except Exception as error:  # the module of another package may raise anything
        package = point.dist.name if point.dist is not None else point.module
        raise Broken(f"{point.name} of the package {package} cannot be loaded: {type(error).__name__}: {error}") from (
            error
        )
    return loaded


@cache
def preset_folders() -> tuple[Path, ...]:
    """Return the preset folders of installed packages; only parent packages are imported.

    A package without such a folder is left out and reported on stderr.
    """
    folders: list[Path] = []
    for point in registered(_PRESETS).values():
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # a parent package may raise anything
            _report(point, f"{type(error).__name__}: {error}")
            continue
        locations = spec.submodule_search_locations if spec is not None else None
        existing = [Path(location) for location in locations or () if Path(location).is_dir()]
        if not existing:
            _report(point, "there is no such folder")
        folders += existing
    return tuple(folders)


def _report(point: EntryPoint, reason: str) -> None:
    print(f"the presets {point.name} of {point.module} are left out: {reason}", file=sys.stderr)


def found(package: str, attribute: str, group: str, kind: type[N], noun: str) -> dict[str, N]:
    """Return instances of `kind` by name: those bound to `attribute` in the package's modules, then registered ones.

    One that cannot be loaded, is of another type, or whose name is taken, is reported on stderr and left out.
    """
    by_name: dict[str, N] = {}
    for item in (*_own(package, attribute, kind), *_others(group, kind, noun)):
        if by_name.setdefault(item.name, item) is not item:
            print(f"the {noun} {item.name} of {type(item).__module__} is left out: the name is taken", file=sys.stderr)
    return by_name


def _own(package: str, attribute: str, kind: type[N]) -> Iterator[N]:
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name != "registry":
            item = getattr(importlib.import_module(f"{package}.{module.name}"), attribute, None)
            if isinstance(item, kind):
                yield item


def _others(group: str, kind: type[N], noun: str) -> Iterator[N]:
    for point in registered(group).values():
        try:
            item = load(point)
        except Broken as error:
            print(f"the {noun} {error}", file=sys.stderr)
            continue
        if isinstance(item, kind):
            yield item
        else:
            print(f"the {noun} {point.name} is not an instance of {kind.__name__}: {point.value}", file=sys.stderr)
