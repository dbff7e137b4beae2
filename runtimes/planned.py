"""Placements that are decided by the sizes of a model's parts, before its weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from runtime_matrix.runtimes.base import Hardware, Placement, Weights


class PlacementPlan(Protocol):
    """Where each part of a module goes, decided before its weights are loaded."""

    @property
    def notes(self) -> Sequence[str]:
        """What the record should say: the parts and bytes of each device."""
        ...

    @property
    def dense_parts(self) -> tuple[str, ...]:
        """Names of the parts that are stored elsewhere than they are computed; weights are not packed there."""
        ...

    @property
    def layer_devices(self) -> Sequence[str]:
        """The device that computes each layer: its keys and values are there."""
        ...

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module, ready to run."""
        ...


@runtime_checkable
class PlannedPlacement(Placement, Protocol):
    """A placement that decides by the sizes of a model's parts, before weights are loaded."""

    def plan(self, outline: Any, hw: Hardware, pack: Callable[[Any, Sequence[str]], None] | None) -> PlacementPlan:
        """Return the plan for a module on the device `meta`. Raises Unsupported if there is not enough memory.

        `pack` is `OutlinedWeights.outline` of packed weights; None: the weights are dense.
        """
        ...


@runtime_checkable
class OutlinedWeights(Weights, Protocol):
    """Packed weights that a `PlacementPlan` can move: `load` observes `LoadRequest.dense_parts`."""

    def outline(self, module: Any, dense_parts: Sequence[str]) -> None:
        """Give the layers of a module on the device `meta` the sizes of these weights, but not in `dense_parts`."""
        ...
