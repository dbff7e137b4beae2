"""Quantization with torchao: int8 weight-only, int8 with dynamic activation quantization, and int4 in groups.

On a CPU each int4 weight takes one byte. There int4 shows the accuracy of 4 bits, but saves no memory over int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.footprint import ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require
from runtime_matrix.runtimes.weights.rounded import check_groups
from runtime_matrix.runtimes.weights.schemes import check_scheme

_INT4_CAPABILITY = (8, 0)  # least compute capability of a CUDA device for the int4 kernel
# As measured: the share of the matrices' float32 copies that is not given back while loading; the activations beside
# packed products, relative to dense ones.
_KEPT, _ACTIVATIONS = 0.35, 1.6
SCHEMES = ("int8", "int8_dynamic", "int4")


class TorchAo:
    """Quantizes all linear layers by `scheme` (int8, int8_dynamic or int4).

    `group_size` is the number of inputs per scale; only int4 uses it. Raises Unsupported for an unknown scheme.
    """

    form: ClassVar[str] = "packed"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("torchao",)
    distributions: ClassVar[tuple[str, ...]] = ("torchao",)

    def __init__(self, scheme: str, group_size: int = 32):
        self._scheme, self._group_size = check_scheme(scheme, SCHEMES), group_size

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": "torchao", "scheme": self._scheme, "group_size": self._group_size}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if torchao is missing, or if the GPU is too old for int4."""
        require("torchao", "quant")
        if self._scheme == "int4" and hw.device == "cuda":
            import torch

            capability = torch.cuda.get_device_capability()
            if capability < _INT4_CAPABILITY:
                raise Unsupported(
                    f"torchao's int4 kernel needs compute capability {_INT4_CAPABILITY[0]}.0, but the GPU has "
                    f"{'.'.join(map(str, capability))}: use runtime/weights=torchao_int8"
                )

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint | None:
        """Return what `load` takes; None for int4, whose dequantized copies are not predictable."""
        if self._scheme == "int4":
            return None
        head = sizes.head or sizes.embedding  # a tied head is packed beside the dense embedding
        packed = sizes.linear + head
        weights = full.packed_footprint(sizes, dtype, sizes.linear + sizes.head, packed)
        dense = 4 * max(sizes.largest, head)  # one matrix in float32: when it is quantized twice, when it is used once
        peak = max(weights.held_bytes, sizes.dense_bytes(dtype) + packed) + 2 * dense
        if sizes.stored_dtype == dtype:  # the file is mapped, and each matrix was copied to be quantized
            peak += _KEPT * 4 * sizes.linear
        return WeightFootprint(weights.held_bytes, max(weights.load_bytes, peak), dense, _ACTIVATIONS)

    def load(self, request: LoadRequest) -> Any:
        """Return the quantized module. Raises Unsupported if int4's `group_size` does not divide a layer's width."""
        self.check(request.hw)
        import torch
        from torchao import quantization
        from torchao.quantization.granularity import PerGroup

        module = full.load_module(request)
        if self._scheme == "int8":
            config: Any = quantization.Int8WeightOnlyConfig()
        elif self._scheme == "int8_dynamic":
            config = quantization.Int8DynamicActivationInt8WeightConfig()
        else:
            for name, part in module.named_modules():
                if isinstance(part, torch.nn.Linear):
                    check_groups(name, part.in_features, self._group_size)
            # The fast int4 kernel supports only bfloat16.
            has_kernel = request.hw.device == "cuda" and request.dtype == "bfloat16"
            config = (
                # The packing of torch's own kernel (tinygemm); torchao's default packing needs another package.
                quantization.Int4WeightOnlyConfig(group_size=self._group_size, int4_packing_format="tile_packed_to_4d")
                if has_kernel
                else quantization.IntxWeightOnlyConfig(
                    torch.int4,  # type: ignore[attr-defined]
                    PerGroup(self._group_size),
                )
            )
        quantization.quantize_(module, config)
        return module
