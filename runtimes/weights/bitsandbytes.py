"""Weights packed by bitsandbytes: NF4 (Dettmers et al. 2023, arXiv 2305.14314) and int8 (arXiv 2208.07339)."""

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
    """`scheme` is nf4 or int8. The head stays as it is, as in transformers' own loading."""

    form: ClassVar[str] = "packed"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("bitsandbytes",)
    distributions: ClassVar[tuple[str, ...]] = ("bitsandbytes",)

    def __init__(self, scheme: str):
        self._scheme = check_scheme(scheme, SCHEMES)

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """What artifacts that are made from these weights depend on."""
        return {"name": "bitsandbytes", "scheme": self._scheme}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported where bitsandbytes is missing."""
        require("bitsandbytes", "quant")

    def load(self, request: LoadRequest) -> Any:
        """Return the module, packed on the device. Unsupported for layers that are no multiple of a block wide."""
        self.check(request.hw)
        import logging

        import torch

        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line for each product otherwise
        module = full.load_module(replace(request, hw=replace(request.hw, device="cpu")))
        head = module.get_output_embeddings()
        for name, part in list(module.named_modules()):
            if isinstance(part, torch.nn.Linear) and part is not head:
                if self._scheme == "nf4" and part.in_features % _BLOCK:
                    raise Unsupported(f"bitsandbytes packs {_BLOCK} weights at once; {name} is {part.in_features} wide")
                parent, _, leaf = name.rpartition(".")
                setattr(module.get_submodule(parent), leaf, self._packed(part))
        on_device: Any = module.to(request.hw.device)  # packs what is moved
        return on_device.eval()

    def _packed(self, part: Any) -> Any:
        import bitsandbytes as bnb

        nn: Any = bnb.nn  # which exports no names
        has_bias = part.bias is not None
        shape = (part.in_features, part.out_features)
        made: Any
        if self._scheme == "nf4":
            made = nn.Linear4bit(*shape, has_bias, compute_dtype=part.weight.dtype, quant_type="nf4")
            made.weight = nn.Params4bit(part.weight.data, requires_grad=False, quant_type="nf4")
        else:
            made = nn.Linear8bitLt(*shape, has_bias, has_fp16_weights=False, threshold=6.0)
            made.weight = nn.Int8Params(part.weight.data, requires_grad=False, has_fp16_weights=False)
        made.bias = part.bias
        return made
