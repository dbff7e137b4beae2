"""Quantization with bitsandbytes.

NF4: Dettmers et al. 2023, arXiv 2305.14314. int8 (LLM.int8()): Dettmers et al. 2022, arXiv 2208.07339.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.footprint import ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require
from runtime_matrix.runtimes.weights.schemes import check_scheme

# As measured: the activations beside packed products, relative to dense ones; and buffers.
_ACTIVATIONS, _OWN_BYTES = {"nf4": 1.5, "int8": 4.2}, 20 * 2**20
SCHEMES = ("nf4", "int8")
_BLOCK = 64  # weights that share a scale
_SCALES = 256  # scales that share a scale: `compress_statistics` of bitsandbytes


class BitsAndBytes:
    """Quantizes all linear layers but the output head, as transformers does. `scheme` is nf4 or int8."""

    form: ClassVar[str] = "packed"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("bitsandbytes",)
    distributions: ClassVar[tuple[str, ...]] = ("bitsandbytes",)

    def __init__(self, scheme: str):
        self._scheme = check_scheme(scheme, SCHEMES)

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": "bitsandbytes", "scheme": self._scheme}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if bitsandbytes is missing."""
        require("bitsandbytes", "quant")

    def load(self, request: LoadRequest) -> Any:
        """Return the module, quantized on the device.

        Raises Unsupported for NF4 if the input width of a layer is not a multiple of the block size.
        """
        self.check(request.hw)
        import logging

        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # otherwise it logs a line per matrix product
        module = full.load_module(replace(request, hw=replace(request.hw, device="cpu")))
        for name, part in self._layers(module, request.dense_parts or ()):
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, self._packed(part))
        if request.dense_parts is None:
            module = module.to(request.hw.device)  # bitsandbytes quantizes the layers during this move
        return module.eval()

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint:
        """Return what `load` takes."""
        packed = self._packed_bytes(sizes.linear, 1)
        weights = full.packed_footprint(sizes, dtype, sizes.linear, packed)
        return replace(weights, forward_bytes=_OWN_BYTES, activations_ratio=_ACTIVATIONS[self._scheme])

    def outline(self, module: Any, dense_parts: Sequence[str]) -> None:
        """Give the linear layers of a module on `meta` the sizes of these weights, as `load` packs them."""
        import torch

        for _, part in self._layers(module, dense_parts):
            size = self._packed_bytes(part.in_features, part.out_features)
            part.weight = torch.nn.Parameter(torch.empty(size, dtype=torch.uint8, device="meta"), requires_grad=False)

    def _layers(self, module: Any, dense_parts: Sequence[str]) -> list[tuple[str, Any]]:
        """Return the linear layers to be packed, with their names. Raises Unsupported for a width that NF4 cannot."""
        import torch

        head, dense = module.get_output_embeddings(), tuple(f"{name}." for name in dense_parts)
        layers = [
            (name, part)
            for name, part in module.named_modules()
            if isinstance(part, torch.nn.Linear) and part is not head and not name.startswith(dense)
        ]
        for name, part in layers:
            if self._scheme == "nf4" and part.in_features % _BLOCK:
                raise Unsupported(f"bitsandbytes packs {_BLOCK} weights at once; {name} is {part.in_features} wide")
        return layers

    def _packed_bytes(self, inputs: int, outputs: int) -> int:
        if self._scheme == "int8":
            return inputs * outputs + 4 * outputs  # a float32 scale per output
        blocks = -(-inputs * outputs // _BLOCK)
        return inputs * outputs // 2 + blocks + 4 * -(-blocks // _SCALES)  # 8-bit scales, scaled in float32 themselves

    def _packed(self, linear: Any) -> Any:
        import bitsandbytes as bnb

        nn: Any = bnb.nn  # Any: bitsandbytes.nn declares no exports for the type checker
        has_bias = linear.bias is not None
        shape = (linear.in_features, linear.out_features)
        packed: Any
        if self._scheme == "nf4":
            packed = nn.Linear4bit(*shape, has_bias, compute_dtype=linear.weight.dtype, quant_type="nf4")
            packed.weight = nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
        else:
            packed = nn.Linear8bitLt(*shape, has_bias, has_fp16_weights=False, threshold=6.0)
            packed.weight = nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
        packed.bias = linear.bias
        return packed
