"""Which device holds which parts of a module, by accelerate, and the same for a module without values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from runtime_matrix.runtimes.base import Hardware, Unsupported
from runtime_matrix.runtimes.placements.disk import stored

_MIB, _GIB = 2**20, 2**30
_STORED = ("cpu", "disk")  # beside GPUs, parts are only stored there; a CPU alone computes its own
_PLACES = {"host": "cpu", "disk": "disk"}


@dataclass(frozen=True)
class LayerPlan:
    """The device of each part, by name, as accelerate's `device_map`; see `runtimes.planned.PlacementPlan`."""

    device_map: Mapping[str, str]  # part: cuda:0, cpu or disk
    bytes: Mapping[str, int]  # device: weights that it holds
    layers: tuple[str, ...]  # names of all layers
    main: str  # device that computes what is stored elsewhere

    @property
    def notes(self) -> tuple[str, ...]:
        """What each device holds."""
        return tuple(self._note(device) for device in self.bytes)

    @property
    def dense_parts(self) -> tuple[str, ...]:
        """Names of the parts that are stored elsewhere than they are computed."""
        return tuple(name for name in self.device_map if self._computes(name) != self.device_map[name])

    @property
    def layer_devices(self) -> tuple[str, ...]:
        """The device that computes each layer."""
        return tuple(map(self._computes, self.layers))

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module with its parts moved and accelerate's hooks; packed layers are packed on their device."""
        from accelerate import dispatch_model

        on_disk = [name for name, device in self.device_map.items() if device == "disk"]
        folder = stored(module, on_disk, hw.artifacts) if on_disk else None
        for name, device in self.device_map.items():
            if name not in self.dense_parts:
                module.get_submodule(name).to(device)
        with _quiet():
            return dispatch_model(
                module,
                dict(self.device_map),
                main_device=self.main,
                offload_dir=folder,
                skip_keys=getattr(module, "_skip_keys_device_placement", None),
                force_hooks=True,
            )

    def _computes(self, name: str) -> str:
        device = self.device_map[name]
        return self.main if device in _STORED else device

    def _note(self, device: str) -> str:
        is_stored = device in _STORED and device != self.main
        title = "host memory" if is_stored and device == "cpu" else device
        numbers = [index for index, name in enumerate(self.layers) if self.device_map[name] == device]
        others = [name.rpartition(".")[2] for name, where in self.device_map.items() if where == device]
        others = [name for name in others if not name.isdigit()]
        layers = (
            f"layers {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"layer {numbers[0]}" if numbers else ""
        )
        parts = ", ".join(filter(None, [layers, *others]))
        when = f", copied to {self.main} in each forward pass" if is_stored else ""
        return f"{title} holds {self.bytes[device] / _MIB:,.1f} MiB of weights: {parts}{when}"


def layer_plan(
    outline: Any,
    memory: Mapping[str, int],
    host_layers: int = 0,
    to: str = "host",
    pack: Callable[[Any, Sequence[str]], None] | None = None,
) -> LayerPlan:
    """Return the plan for the module `outline`, which may be on the device `meta`; needs no GPU.

    `memory` is bytes by device, the computing ones first. `pack` gives the layers of `outline` the sizes of packed
    weights, except in given parts. Raises Unsupported if there are too few layers or too little memory.
    """
    from accelerate.utils import compute_module_sizes

    layers = [name for name, part in outline.named_modules() if type(part).__name__ in outline._no_split_modules]
    if host_layers >= len(layers):
        raise Unsupported(f"runtime.placement.host_layers={host_layers}: the model has {len(layers)} layers")
    moved = layers[len(layers) - host_layers :]
    if pack is not None:
        pack(outline, moved)
    sizes = compute_module_sizes(outline)
    device_map = _inferred(outline, _with_room(memory, sizes, layers, moved), layers, moved)
    wanted = _wanted(sizes, memory, layers)
    on_disk = sum(sizes[name] for name, device in device_map.items() if device == "disk")
    if on_disk > memory.get("disk", 0):
        raise Unsupported(f"the model does not fit: {wanted}")
    if pack is not None and not set(device_map.values()).isdisjoint(set(_STORED) - {_main(memory)}):
        raise Unsupported(
            f"the GPUs are too small, and packed weights cannot be stored elsewhere: {wanted}; "
            "runtime.placement.host_layers=N leaves the last layers dense, on the host"
        )
    device_map |= dict.fromkeys(moved, _PLACES[to])
    held: dict[str, int] = {}
    for name, device in device_map.items():
        held[device] = held.get(device, 0) + sizes[name]
    plan = LayerPlan(device_map, held, tuple(layers), _main(memory))
    if plan.layer_devices[0] != plan.main or device_map[layers[0]] != plan.main:
        raise Unsupported(f"not one layer fits on {plan.main}: {wanted}")
    return plan


def _main(memory: Mapping[str, int]) -> str:
    """Return the device that computes what is stored elsewhere: the first GPU, or the CPU."""
    return next(iter(memory))


def _with_room(
    memory: Mapping[str, int], sizes: Mapping[str, int], layers: Sequence[str], moved: Sequence[str]
) -> dict[str, int]:
    """Return the memory without the room that a dense layer needs beyond a packed one: accelerate counts the latter."""
    kept = max(sizes[name] for name in layers if name not in moved)
    more = max([sizes[name] - kept for name in moved], default=0)
    return {**memory, _main(memory): memory[_main(memory)] - max(0, more)}


def _inferred(outline: Any, memory: Mapping[str, int], layers: Sequence[str], moved: Sequence[str]) -> dict[str, str]:
    """Return the device of each part but the layers `moved`; what fits nowhere is on disk."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    # accelerate has numbers for GPUs, and puts on disk what fits nowhere.
    devices = {_number(name): name for name in memory if name != "disk"}
    classes = list(outline._no_split_modules)
    with _without(outline, moved), _quiet():
        parts = _parts(outline, layers)
        limits = get_balanced_memory(
            outline, {key: memory[name] for key, name in devices.items()}, no_split_module_classes=classes
        )
        inferred = infer_auto_device_map(outline, limits, no_split_module_classes=classes)
    placed: dict[str, str] = {}
    for name, device in inferred.items():  # one name may stand for all parts below it
        below = [part for part in parts if not name or part == name or part.startswith(f"{name}.")]
        placed |= dict.fromkeys(below or [name], devices.get(device, "disk"))
    return placed


def _parts(module: Any, layers: Sequence[str], prefix: str = "") -> list[str]:
    """Return the names of the layers and of the largest parts beside them, in the module's order."""
    names: list[str] = []
    for child, part in module.named_children():
        name = f"{prefix}{child}"
        has_layers = name not in layers and any(layer.startswith(f"{name}.") for layer in layers)
        names += _parts(part, layers, f"{name}.") if has_layers else [name]
    return names


def _wanted(sizes: Mapping[str, int], memory: Mapping[str, int], layers: Sequence[str]) -> str:
    """Return the sizes of the model and of the devices."""
    given = ", ".join(f"{name} {size / _GIB:.3g} GiB" for name, size in memory.items())
    layer = max(sizes[name] for name in layers)
    return (
        f"it has {sizes[''] / _GIB:.3g} GiB, {layer / _GIB:.2g} per layer, and the devices take {given}, the first of "
        "them with room for a layer to spare (runtime.placement.max_memory)"
    )


def _number(name: str) -> int | str:
    return int(name.partition(":")[2]) if ":" in name else name


@contextmanager
def _without(module: Any, layers: Sequence[str]) -> Iterator[None]:
    """Remove the last layers of the module for the time of a block."""
    removed = []
    for name in layers:
        parent, _, child = name.rpartition(".")
        container = module.get_submodule(parent)
        removed.append((container, child, container._modules.pop(child)))
    try:
        yield
    finally:
        for container, child, layer in removed:
            container._modules[child] = layer


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out accelerate's warnings: that a GPU of the plan is not on this machine, and that parts are moved."""
    loggers = [logging.getLogger(f"accelerate.{name}") for name in ("utils.modeling", "big_modeling")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
