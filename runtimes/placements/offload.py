"""Offloading by accelerate: layers that do not fit lie in host memory or on disk, and come when they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from runtime_matrix.runtimes.artifacts import entry
from runtime_matrix.runtimes.base import Hardware, Unsupported
from runtime_matrix.runtimes.weights.packages import require

DeviceMap = dict[str, int | str]  # part of a module -> device number, cpu or disk


class Offload:
    """Either the last `layers` go `to` host or disk, or `max_memory` says how much each device may hold.

    `max_memory` is accelerate's: device number or cpu -> bytes or text such as 12GB; what fits nowhere goes to disk.
    """

    packages: ClassVar[tuple[str, ...]] = ("accelerate",)
    distributions: ClassVar[tuple[str, ...]] = ("accelerate",)
    is_whole: ClassVar[bool] = False
    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense"})  # packed ones have state beside their tensors

    def __init__(
        self,
        layers: int | None = None,
        to: str = "disk",
        max_memory: Mapping[Any, Any] | None = None,
    ):
        if (layers is None) == (max_memory is None):
            raise Unsupported("offloading wants one of runtime.placement.layers=N and runtime.placement.max_memory={…}")
        if to not in ("host", "disk"):
            raise Unsupported(f"runtime.placement.to={to} is unknown; known: host, disk")
        self._layers, self._to, self._max_memory = layers, to, max_memory

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported where accelerate is missing, or nothing can be moved."""
        require("accelerate", "offload")
        if self._to == "host" and hw.device == "cpu" and self._layers is not None:
            raise Unsupported("the model is in host memory already: runtime.placement.to=disk, or a machine with a GPU")

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module, ready to run. Unsupported when no such placement exists."""
        self.check(hw)
        from accelerate import dispatch_model

        device_map = self._device_map(module, hw)
        on_disk = [name for name, device in device_map.items() if device == "disk"]
        folder = _stored(module, on_disk, hw.artifacts) if on_disk else None
        on = 0 if hw.device == "cuda" else "cpu"
        return dispatch_model(module, device_map, main_device=on, offload_dir=folder, force_hooks=True)

    def _device_map(self, module: Any, hw: Hardware) -> DeviceMap:
        on: int | str = 0 if hw.device == "cuda" else "cpu"
        if self._max_memory is not None:
            return self._by_memory(module)
        layers = [name for name, part in module.named_modules() if type(part).__name__ in module._no_split_modules]
        assert self._layers is not None
        if not 1 <= self._layers <= len(layers):
            raise Unsupported(f"runtime.placement.layers={self._layers}: the model has {len(layers)} layers")
        away = set(layers[-self._layers :])
        parts = [name for name, _ in module.named_children() if name != "model"]
        inner = [f"model.{name}" for name, _ in module.model.named_children() if name != "layers"]
        placed: DeviceMap = dict.fromkeys((*parts, *inner, *layers), on)
        return placed | dict.fromkeys(away, "cpu" if self._to == "host" else "disk")

    def _by_memory(self, module: Any) -> DeviceMap:
        from accelerate import infer_auto_device_map

        memory = {int(k) if str(k).isdigit() else str(k): v for k, v in dict(self._max_memory or {}).items()}
        try:
            found: DeviceMap = infer_auto_device_map(
                module, memory, no_split_module_classes=list(module._no_split_modules)
            )
        except (ValueError, KeyError) as error:
            text = json.dumps(dict(self._max_memory or {}))
            raise Unsupported(f"no placement satisfies runtime.placement.max_memory={text}: {error}") from error
        if set(found.values()) == {"disk"}:
            text = json.dumps(dict(self._max_memory or {}))
            raise Unsupported(f"not one layer fits into runtime.placement.max_memory={text}: give more")
        return found


def _stored(module: Any, parts: Sequence[str], artifacts: Path) -> str:
    """Return the folder in which the weights of `parts` lie as accelerate reads them.

    accelerate takes whatever lies in the folder that it is given, even another model's: the content names the folder.
    """
    import torch
    from accelerate.utils import extract_submodules_state_dict, offload_state_dict

    weights = extract_submodules_state_dict(module.state_dict(), list(parts))
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    made_from = {"weights": digest.hexdigest(), "accelerate": version("accelerate")}
    return str(entry(artifacts, "offload", made_from, lambda folder: offload_state_dict(folder, weights)))
