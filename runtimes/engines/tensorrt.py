"""TensorRT, TensorRT-RTX or torch-tensorrt, whichever is installed; otherwise an error that names what is missing."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    Hardware,
    ModelSource,
    Phase,
    Runtime,
    Traits,
    Unsupported,
    Weights,
)
from runtime_matrix.runtimes.engines import onnx_graph
from runtime_matrix.runtimes.engines.chosen import Chosen
from runtime_matrix.runtimes.weights import full

# In the order in which `auto` tries them. tensorrt_rtx is the public module; its bindings alone suffice.
_MODULES = {
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "torch_tensorrt": ("torch_tensorrt",),
}
# Compute capabilities with TensorRT-RTX kernels according to its support matrix: workstation GPUs of the generations
# Turing, Ampere, Ada and Blackwell. A100 (8.0) and H100 (9.0) are not among them.
_RTX_CAPABILITIES = ("7.5", "8.6", "8.9", "12.0", "12.1")
_EXTRAS = "pip install 'runtime-matrix[tensorrt]' or 'runtime-matrix[tensorrt-rtx]'"


class TensorRT(Chosen):
    """A model run by TensorRT; `backend` is auto, tensorrt, tensorrt_rtx or torch_tensorrt.

    `build_only`: `load` builds the engine into the artifact cache and then raises Unsupported; torch_tensorrt cannot.
    `max_batch` rows of `max_tokens` tokens are the largest sizes of the engine. `max_tokens=None`: the model's maximum,
    or what is asked for if that is less, at most 2048.
    """

    weight_forms = frozenset({"dense"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"merged"})
    distributions = ("onnx", "tensorrt", "tensorrt-rtx-cu13-bindings", "torch-tensorrt")

    def __init__(
        self,
        dtype: str = "float16",
        backend: str = "auto",
        build_only: bool = False,
        max_batch: int = 8,
        max_tokens: int | None = None,
        weights: Weights | None = None,
    ):
        if backend not in ("auto", *_MODULES):
            raise Unsupported(f"runtime.engine.backend={backend} is unknown: use auto, {', '.join(_MODULES)}")
        if build_only and backend == "torch_tensorrt":
            raise Unsupported("torch_tensorrt builds on a GPU only: use runtime.engine.backend=tensorrt_rtx")
        self._dtype, self._backend, self._build_only = dtype, backend, build_only
        self._weights: Weights = weights or full.Full()
        self._max_batch, self._max_tokens = max_batch, max_tokens
        self._engine: Runtime | None = None

    @override
    def check(self, hw: Hardware) -> None:
        backend, module = self._select_backend(hw)
        self._weights.check(hw)
        if backend == "torch_tensorrt":
            self._new_engine(backend, module).check(hw)
        else:
            onnx_graph.check("tensorrt-rtx" if backend == "tensorrt_rtx" else "tensorrt", self._weights)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        with phase("import"):
            backend, module = self._select_backend(hw)
        self._engine = self._new_engine(backend, module)
        return self._engine.load(model, replace(hw, compute_capability=_capability(hw)), phase, calibration_ids)

    def _new_engine(self, backend: str, module: Any) -> Runtime:
        if backend == "torch_tensorrt":
            from runtime_matrix.runtimes.engines.torch_tensorrt import TorchTensorRT

            return TorchTensorRT(self._dtype, (1, self._max_batch), self._weights)
        from runtime_matrix.runtimes.engines.tensorrt_plan import TensorRTPlan

        bounds = (self._max_batch, self._max_tokens)
        return TensorRTPlan(module, self._dtype, bounds, self._build_only, self._weights)

    def _select_backend(self, hw: Hardware) -> tuple[str, Any]:
        """Return the backend and its module. Unsupported names the requirement, what was found, and the remedy."""
        backends = list(_MODULES) if self._backend == "auto" else [self._backend]
        if self._build_only:
            backends = [name for name in backends if name != "torch_tensorrt"]
        elif hw.device != "cuda":
            raise Unsupported(
                f"TensorRT needs an NVIDIA GPU; this machine computes on {hw.device} (torch {torch.__version__}; "
                f"installed: {_installed()}). To build the engine here for another machine, set "
                "runtime.engine.build_only=true"
            )
        errors = []
        capability = _capability(hw)
        for backend in backends:
            for name in _MODULES[backend]:
                if importlib.util.find_spec(name) is None:
                    continue
                if backend == "tensorrt_rtx" and capability not in (None, *_RTX_CAPABILITIES):
                    errors.append(
                        f"TensorRT-RTX has no kernels for compute capability {capability}, only for "
                        f"{', '.join(_RTX_CAPABILITIES)}"
                    )
                    break
                try:
                    return backend, importlib.import_module(name)
                except Exception as error:  # these packages raise plain exceptions if one of their libraries is missing
                    errors.append(f"{name} does not load ({str(error).strip().splitlines()[0][:120]})")
        raise Unsupported(f"{'; '.join(errors) or f'{backends[0]} is not installed'}: {_EXTRAS}")


def _capability(hw: Hardware) -> str | None:
    """Return the compute capability of this machine's GPU; without a GPU, the one that the hardware profile states."""
    if hw.device == "cuda" and torch.cuda.is_available():
        return ".".join(map(str, torch.cuda.get_device_capability()))
    return hw.compute_capability


def _installed() -> str:
    names = [name for names in _MODULES.values() for name in names]
    installed = [name for name in names if importlib.util.find_spec(name) is not None]
    return ", ".join(installed) if installed else f"none; {_EXTRAS}"
