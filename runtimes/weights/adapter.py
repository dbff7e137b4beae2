"""LoRA adapters on a loaded module, by PEFT: beside its weights, exchanged, or merged into them.

Only what `adapter_files` has checked reaches PEFT: the names of the layers, their ranks and scales.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from runtime_matrix.runtimes.adapter_files import TENSORS, AdapterFiles, read_adapter, tensor_name
from runtime_matrix.runtimes.base import Adapter, Unsupported
from runtime_matrix.runtimes.weights.packages import require

_NAME = "adapter"  # of the adapter in use


def import_packages() -> None:
    """Import PEFT and what it looks for when it wraps a layer: the packages of packed weights, if they are installed.

    In a thread, because a package whose import fails keeps the error with its traceback. Its frames refer to all their
    callers, which would keep the model in memory for good.
    """
    thread = threading.Thread(target=_wrap_a_layer)
    thread.start()
    thread.join()


def _wrap_a_layer() -> None:
    import torch

    with suppress(ImportError):  # reported where an adapter is attached
        from peft import LoraConfig, inject_adapter_in_model

        module = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2)})
        inject_adapter_in_model(LoraConfig(r=1, target_modules=["layer"]), module)


def attach(module: Any, adapter: Adapter, dtype: Any, name: str = _NAME) -> None:
    """Add an adapter beside the weights of a module, in `dtype`, and use it.

    Raises Unsupported if the adapter belongs to another base, or if PEFT cannot put it beside these weights.
    """
    require("peft", "adapters")
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from safetensors.torch import load_file

    files = _files(adapter)
    _check_shapes(module, files, adapter)
    alpha: Any = files.alpha  # PEFT declares an integer and divides it by the rank
    config = LoraConfig(
        r=files.rank,
        rank_pattern={name: part.rank for name, part in files.modules.items() if part.rank != files.rank},
        lora_alpha=alpha,
        alpha_pattern=dict(files.alphas),
        use_rslora=files.is_rank_stabilized,
        fan_in_fan_out=files.is_transposed,
        target_modules=list(files.modules),
        init_lora_weights=False,
        inference_mode=True,
    )
    if hasattr(module, "peft_config"):
        del module.peft_config  # of the adapter before: PEFT would warn of several
    try:
        inject_adapter_in_model(config, module, adapter_name=name)
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise Unsupported(
            f"PEFT cannot put {adapter.name} beside these weights: {str(error).splitlines()[0]}"
        ) from error
    tensors, layers = load_file(adapter.folder / TENSORS), dict(_layers(module))
    with torch.no_grad():
        for path in files.modules:
            layer = layers[path]
            for side, parts in (("A", layer.lora_A), ("B", layer.lora_B)):
                parts[name].to(device=_device(layer), dtype=dtype).weight.copy_(tensors[tensor_name(path, side)])
    use(module, name)
    module.eval().requires_grad_(False)


def use(module: Any, name: str) -> None:
    """Compute with the adapter `name` from now on."""
    for _, layer in _layers(module):
        layer.set_adapter(name, inference_mode=True)


def remove(module: Any, name: str = _NAME) -> None:
    """Forget an adapter; the layers keep their wrappers, into which the next one is put."""
    for _, layer in _layers(module):
        if name in layer.lora_A:
            layer.delete_adapter(name)


def merged(module: Any, adapter: Adapter, dtype: Any) -> Any:
    """Return the module with the adapter added to its weights, in their dtype; no wrapper stays."""
    attach(module, adapter, dtype)
    for path, layer in list(_layers(module)):
        layer.merge(safe_merge=True)
        parent, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(parent), leaf, layer.get_base_layer())
    return module


@dataclass(frozen=True)
class Held:
    """An adapter beside the weights of a module, see `base.HeldAdapter`."""

    module: Any
    adapter: Adapter

    @property
    def memory_bytes(self) -> int:
        """Return the size in bytes of the adapter's factors in memory."""
        factors = [part[_NAME].weight for _, layer in _layers(self.module) for part in (layer.lora_A, layer.lora_B)]
        return sum(factor.numel() * factor.element_size() for factor in factors)

    def switch_seconds(self, times: int) -> tuple[float, list[float]]:
        """Return the seconds to read and attach a second adapter of the same files, and those of each switch."""
        start = time.perf_counter()
        attach(self.module, self.adapter, self.module.dtype, "second")
        attach_s, switches = time.perf_counter() - start, []
        try:
            for index in range(times):
                start = time.perf_counter()
                use(self.module, (_NAME, "second")[index % 2])
                switches.append(time.perf_counter() - start)
        finally:
            use(self.module, _NAME)
            remove(self.module, "second")
        return attach_s, switches


def _files(adapter: Adapter) -> AdapterFiles:
    try:
        return read_adapter(adapter.folder)
    except ValueError as error:  # the files have changed since the cell was planned
        raise Unsupported(str(error)) from error


def _layers(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the wrapped layers with their names."""
    from peft.tuners.lora import LoraLayer

    yield from ((name, part) for name, part in module.named_modules() if isinstance(part, LoraLayer))


def _check_shapes(module: Any, files: AdapterFiles, adapter: Adapter) -> None:
    parts = dict(module.named_modules())
    for name, adapted in files.modules.items():
        part: Any = parts.get(name)
        base = getattr(part, "base_layer", part)
        if base is None:
            raise Unsupported(f"{adapter.name} is an adapter of another base: the model has no {name}")
        sizes = getattr(base, "in_features", None), getattr(base, "out_features", None)
        if None not in sizes and sizes != (adapted.inputs, adapted.outputs):
            raise Unsupported(
                f"{adapter.name} is an adapter of another base: {name} takes {adapted.inputs} and gives "
                f"{adapted.outputs} numbers there, {sizes[0]} and {sizes[1]} here"
            )


def _device(layer: Any) -> Any:
    """Return the device of a layer's own weights, which are buffers where they are packed."""
    base = layer.get_base_layer()
    return next(tensor.device for tensors in (base.parameters(), base.buffers()) for tensor in tensors)
