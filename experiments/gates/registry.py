"""Which axes gates have: those in the folder `axes`, those of other packages, and those that `register` adds.

There are three orders, and each is fixed. The keys of a gate and the names of its limits follow `Axis.place`, findings
`Limits.place`, the keys of a baseline file `Kept.place`. What has no place of its own comes last, by key.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates import axes as folder
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits

_registered: list[Axis] = []


def register(axis: Axis) -> None:
    """Add an axis to all gates that are read from now on. ValueError where a key of it is taken."""
    _check([*axes(), axis])
    _registered.append(axis)


def axes() -> list[Axis]:
    """Return all axes in the order of a gate's keys."""
    found = [*_in_folder(tuple(folder.__path__)), *_of_packages(), *_registered]
    return sorted(found, key=lambda axis: (axis.place, axis.limits[0].key))


def limits() -> list[Limits[Any]]:
    """Return what a gate can limit, in the order of its keys."""
    return [limits for axis in axes() for limits in axis.limits]


def judged_limits() -> list[Limits[Any]]:
    """Return what a gate can limit, in the order of findings."""
    return sorted(limits(), key=lambda limits: (limits.place, limits.key))


def kept_parts() -> list[Kept[Any]]:
    """Return what baselines keep, in the order of the file. Axes may share a part."""
    parts = dict.fromkeys(kept for axis in axes() for kept in axis.kept)
    return sorted(parts, key=lambda kept: (kept.place, kept.key))


@cache
def _in_folder(places: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes of the modules in these folders. TypeError for a module that has no AXIS."""
    found = []
    for module in pkgutil.iter_modules(places):
        axis = getattr(importlib.import_module(f"{folder.__name__}.{module.name}"), "AXIS", None)
        if not isinstance(axis, Axis):
            raise TypeError(f"{folder.__name__}.{module.name} has no AXIS, see {folder.__name__}")
        found.append(axis)
    _check(found)
    return tuple(found)


@cache
def _of_packages() -> tuple[Axis, ...]:
    """Return the axes that other packages register. UserError for one that is none: a gate must not lose a limit."""
    found = []
    for point in plugins.registered(plugins.GATE_AXES).values():
        try:
            axis = plugins.load(point)
        except plugins.Broken as error:
            raise UserError(f"the gate axis {error}; uninstall it, or mend it") from error
        if not isinstance(axis, Axis):
            raise UserError(f"the gate axis {point.name} is no Axis: {point.value}")
        found.append(axis)
    return tuple(found)


def _check(found: Sequence[Axis]) -> None:
    keys = [limits.name for axis in found for limits in axis.limits]
    keys += [f"baseline file, {kept.key}" for kept in dict.fromkeys(kept for axis in found for kept in axis.kept)]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"two axes have the key {twice}")
