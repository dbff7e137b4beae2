"""The axes of gates: those in the folder `axes`, those of other packages, and those added by `register`.

Three orders are fixed: keys of a gate and names of limits by `Axis.place`, findings by `Limits.place`, keys of a
baseline file by `Kept.place`. Axes without a place come last, by key.
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
    """Add an axis to all gates that are read afterwards. ValueError if a key is taken."""
    _check([*axes(), axis])
    _registered.append(axis)


def axes() -> list[Axis]:
    """Return all axes in the order of a gate's keys."""
    all_axes = [*_in_folder(tuple(folder.__path__)), *_of_packages(), *_registered]
    return sorted(all_axes, key=lambda axis: (axis.place, axis.limits[0].key))


def limits() -> list[Limits[Any]]:
    """Return all limits in the order of a gate's keys."""
    return [limits for axis in axes() for limits in axis.limits]


def judged_limits() -> list[Limits[Any]]:
    """Return all limits in the order of findings."""
    return sorted(limits(), key=lambda limits: (limits.place, limits.key))


def kept_parts() -> list[Kept[Any]]:
    """Return the parts of baselines in the order of the file. Axes may share a part."""
    parts = dict.fromkeys(kept for axis in axes() for kept in axis.kept)
    return sorted(parts, key=lambda kept: (kept.place, kept.key))


@cache
def _in_folder(places: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes of the modules in these folders. TypeError for a module without AXIS."""
    folder_axes = []
    for module in pkgutil.iter_modules(places):
        axis = getattr(importlib.import_module(f"{folder.__name__}.{module.name}"), "AXIS", None)
        if not isinstance(axis, Axis):
            raise TypeError(f"{folder.__name__}.{module.name} has no AXIS, see {folder.__name__}")
        folder_axes.append(axis)
    _check(folder_axes)
    return tuple(folder_axes)


@cache
def _of_packages() -> tuple[Axis, ...]:
    """Return the axes of other packages. UserError for an invalid one: a gate must not silently lose a limit."""
    package_axes = []
    for point in plugins.registered(plugins.GATE_AXES).values():
        try:
            axis = plugins.load(point)
        except plugins.Broken as error:
            raise UserError(f"the gate axis {error}; uninstall the package or fix it") from error
        if not isinstance(axis, Axis):
            raise UserError(f"the gate axis {point.name} is not an Axis: {point.value}")
        package_axes.append(axis)
    try:
        _check([*_in_folder(tuple(folder.__path__)), *package_axes])
    except ValueError as error:
        raise UserError(f"{error}; uninstall the package of one") from error
    return tuple(package_axes)


def _check(all_axes: Sequence[Axis]) -> None:
    keys = [limits.name for axis in all_axes for limits in axis.limits]
    keys += [f"baseline file, {kept.key}" for kept in dict.fromkeys(kept for axis in all_axes for kept in axis.kept)]
    duplicate = next((key for key in keys if keys.count(key) > 1), None)
    if duplicate is not None:
        raise ValueError(f"two axes have the key {duplicate}")
