"""Offloading with accelerate: some layers stay in host memory or on disk and are loaded when they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, Unsupported
from runtime_matrix.runtimes.footprint import ELEMENT_BYTES, ModelSizes, WeightFootprint
from runtime_matrix.runtimes.placements.disk import stored
from runtime_matrix.runtimes.weights.packages import require

DeviceMap = dict[str, int | str]  # module name -> device number, cpu or disk


class Offload:
    """Offloads the last `layers` layers to `to` (host or disk), or distributes the model within `max_memory`.

    `max_memory` is accelerate's mapping: device number or cpu -> bytes or text such as 12GB. Parts that fit on no
    device go to disk. Raises Unsupported unless exactly one of `layers` and `max_memory` is set, or if `to` is unknown.
    """

    packages: ClassVar[tuple[str, ...]] = ("accelerate",)
    distributions: ClassVar[tuple[str, ...]] = ("accelerate",)
    is_whole: ClassVar[bool] = False
    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense"})  # packed layers have state outside their tensors

    def __init__(
        self,
        layers: int | None = None,
        to: str = "disk",
        max_memory: Mapping[Any, Any] | None = None,
    ):
        if (layers is None) == (max_memory is None):
            raise Unsupported("offloading needs either runtime.placement.layers=N or runtime.placement.max_memory={…}")
        if to not in ("host", "disk"):
            raise Unsupported(f"runtime.placement.to={to} is unknown; known: host, disk")
        self._layers, self._to, self._max_memory = layers, to, max_memory

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if accelerate is missing, or if the model is already in host memory."""
        require("accelerate", "offload")
        if self._to == "host" and hw.device == "cpu" and self._layers is not None:
            raise Unsupported("the model is in host memory already: runtime.placement.to=disk, or a machine with a GPU")

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module with accelerate's hooks, ready to run.

        Raises Unsupported if `layers` is out of range, or if no placement satisfies `max_memory`.
        """
        self.check(hw)
        from accelerate import dispatch_model

        device_map = self._device_map(module, hw)
        disk_parts = [name for name, device in device_map.items() if device == "disk"]
        folder = stored(module, disk_parts, hw.artifacts) if disk_parts else None
        main_device = 0 if hw.device == "cuda" else "cpu"
        return dispatch_model(module, device_map, main_device=main_device, offload_dir=folder, force_hooks=True)

    def footprint(self, weights: WeightFootprint, sizes: ModelSizes, dtype: str) -> WeightFootprint | None:
        """Return what stays in memory, and one layer that is read when it runs; None with `max_memory`."""
        if self._layers is None:
            return None
        layer = sizes.linear / sizes.layers * ELEMENT_BYTES[dtype]
        held = weights.held_bytes - (self._layers * layer if sizes.stored_dtype != dtype else 0)
        return WeightFootprint(held, weights.load_bytes, weights.forward_bytes + layer)

    def _device_map(self, module: Any, hw: Hardware) -> DeviceMap:
        main_device: int | str = 0 if hw.device == "cuda" else "cpu"
        if self._max_memory is not None:
            return self._by_memory(module)
        layers = [name for name, part in module.named_modules() if type(part).__name__ in module._no_split_modules]
        assert self._layers is not None
        if not 1 <= self._layers <= len(layers):
            raise Unsupported(f"runtime.placement.layers={self._layers}: the model has {len(layers)} layers")
        offloaded = layers[-self._layers :]
        outer = [name for name, _ in module.named_children() if name != "model"]
        inner = [f"model.{name}" for name, _ in module.model.named_children() if name != "layers"]
        device_map: DeviceMap = dict.fromkeys((*outer, *inner, *layers), main_device)
        return device_map | dict.fromkeys(offloaded, "cpu" if self._to == "host" else "disk")

    def _by_memory(self, module: Any) -> DeviceMap:
        from accelerate import infer_auto_device_map

        memory = {int(k) if str(k).isdigit() else str(k): v for k, v in dict(self._max_memory or {}).items()}
        try:
            device_map: DeviceMap = infer_auto_device_map(
                module, memory, no_split_module_classes=list(module._no_split_modules)
            )
        except (ValueError, KeyError) as error:
            text = json.dumps(dict(self._max_memory or {}))
            raise Unsupported(f"no placement satisfies runtime.placement.max_memory={text}: {error}") from error
        if set(device_map.values()) == {"disk"}:
            text = json.dumps(dict(self._max_memory or {}))
            raise Unsupported(f"not one layer fits into runtime.placement.max_memory={text}: increase it")
        return device_map
