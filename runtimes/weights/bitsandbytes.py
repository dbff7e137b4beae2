"""Quantization with bitsandbytes.

NF4: Dettmers et al. 2023, arXiv 2305.14314. int8 (LLM.int8()): Dettmers et al. 2022, arXiv 2208.07339.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require
from runtime_matrix.runtimes.weights.schemes import check_scheme

SCHEMES = ("nf4", "int8")
_BLOCK = 64  # weights that share a scale


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

        import torch

        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # otherwise it logs a line per matrix product
        module = full.load_module(replace(request, hw=replace(request.hw, device="cpu")))
        head = module.get_output_embeddings()
        for name, part in list(module.named_modules()):
            if isinstance(part, torch.nn.Linear) and part is not head:
                if self._scheme == "nf4" and part.in_features % _BLOCK:
                    raise Unsupported(f"bitsandbytes packs {_BLOCK} weights at once; {name} is {part.in_features} wide")
                parent, _, leaf = name.rpartition(".")
                setattr(module.get_submodule(parent), leaf, self._packed(part))
        on_device: Any = module.to(request.hw.device)  # bitsandbytes quantizes the layers during this move
        return on_device.eval()

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
