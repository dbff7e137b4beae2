"""What other packages add: benchmarks, exporters and gate axes by entry points, and folders of presets.

A package that is installed beside this one declares, in its own `pyproject.toml`:

    [project.entry-points."runtime_matrix.tasks"]      # benchmarks: see `tasks/task.py`
    [project.entry-points."runtime_matrix.exporters"]  # where results go: see `exporters/exporter.py`
    [project.entry-points."runtime_matrix.gate_axes"]  # what gates can limit: see `gates/axes/`
    [project.entry-points."runtime_matrix.presets"]    # packages whose folders hold YAML, as `conf/` does

Engines, weights and placements need a preset alone: its `target` names the class.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

TASKS = "runtime_matrix.tasks"
EXPORTERS = "runtime_matrix.exporters"
GATE_AXES = "runtime_matrix.gate_axes"
_PRESETS = "runtime_matrix.presets"


class Broken(Exception):
    """A package's entry point cannot be loaded. One line: which, and why."""


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, in the order of their names. Nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(point: EntryPoint) -> object:
    """Return what an entry point names. Broken for whatever its package raises while it is imported."""
    try:
        found: object = point.load()
    except Exception as error:  # a stranger's module
        package = point.dist.name if point.dist is not None else point.module
        raise Broken(f"{point.name} of the package {package} cannot be loaded: {type(error).__name__}: {error}") from (
            error
        )
    return found


@cache
def preset_folders() -> tuple[Path, ...]:
    """Return the folders of presets that packages bring, without importing more than their parent packages."""
    folders = []
    for point in registered(_PRESETS).values():
        try:
            spec = importlib.util.find_spec(point.module)
        except (ImportError, ValueError):
            continue
        places = spec.submodule_search_locations if spec is not None else None
        folders += [Path(place) for place in places or () if Path(place).is_dir()]
    return tuple(folders)
