"""Quantizes a model folder with gptqmodel, in a process of its own, which reads what to do as JSON from its input."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from typing_extensions import override


@dataclass(frozen=True)
class Order:
    """What to quantize, how, and where to write it."""

    source: str  # a folder
    out: str
    device: str
    dtype: str  # torch's, or auto: gptqmodel's own choice
    method: str  # gptq or awq
    bits: int
    group_size: int
    calibration_ids: list[list[int]]


def main() -> None:
    """Quantize what the order on standard input says."""
    order = Order(**json.load(sys.stdin))
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from gptqmodel.quantization import FORMAT, METHOD

    is_awq = order.method == "awq"
    form = {"method": METHOD.AWQ, "format": FORMAT.GEMM} if is_awq else {}
    config = QuantizeConfig(bits=order.bits, group_size=order.group_size, **form)
    dtype = order.dtype if order.dtype == "auto" else getattr(torch, order.dtype)
    model = GPTQModel.load(order.source, config, device=order.device, dtype=dtype)
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in order.calibration_ids]
    if is_awq and dtype is torch.float32:
        from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear

        # It refuses what it can do: layers that were quantized in float32 are packed with scales in float16.
        AwqTorchLinear.SUPPORTS_DTYPES = [*AwqTorchLinear.SUPPORTS_DTYPES, torch.float32]
        _search_on_copies()
    backend = {"backend": BACKEND.AWQ_TORCH} if is_awq and order.device == "cpu" else {}
    model.quantize(rows, batch_size=4, **backend)
    model.save(order.out)


def _search_on_copies() -> None:
    """Keep gptqmodel 7.6's search for scales from destroying weights in float32 on a CPU.

    It tries each scale on the weights themselves and then restores them from what it kept: `weight.detach()` converted
    to float32 on the CPU, which is no copy where they are that already.
    """
    import torch
    from gptqmodel.looper.awq_processor import AWQProcessor

    search = AWQProcessor._compute_best_scale

    class Weight(torch.nn.Parameter):
        @override
        def detach(self) -> torch.Tensor:
            return super().detach().clone()

    def search_on_copies(
        self: Any, x: Any, w_mean: Any, x_mean: Any, module: Any, linears: Any, *rest: Any, **options: Any
    ) -> Any:
        weights = [linear.weight for linear in linears]
        for linear in linears:
            linear.weight = Weight(linear.weight.data, requires_grad=False)  # the same memory
        try:
            return search(self, x, w_mean, x_mean, module, linears, *rest, **options)
        finally:
            for linear, weight in zip(linears, weights, strict=True):
                linear.weight = weight

    AWQProcessor._compute_best_scale = search_on_copies


if __name__ == "__main__":
    main()
