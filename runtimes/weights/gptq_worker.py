"""Quantizes a model folder with gptqmodel, in a separate process that reads an `Order` as JSON from standard input."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from typing_extensions import override


@dataclass(frozen=True)
class Order:
    """The arguments of the process: the model, the quantization method and the output folder."""

    source: str  # folder of the model
    out: str  # folder of the quantized model
    device: str
    dtype: str  # torch's name, or auto: gptqmodel chooses
    method: str  # gptq or awq
    bits: int
    group_size: int
    calibration_ids: list[list[int]]  # one list of token ids per sequence


def main() -> None:
    """Quantize the model that the JSON `Order` on standard input describes."""
    order = Order(**json.load(sys.stdin))
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from gptqmodel.quantization import FORMAT, METHOD

    is_awq = order.method == "awq"
    method_options = {"method": METHOD.AWQ, "format": FORMAT.GEMM} if is_awq else {}
    config = QuantizeConfig(bits=order.bits, group_size=order.group_size, **method_options)
    dtype = order.dtype if order.dtype == "auto" else getattr(torch, order.dtype)
    model = GPTQModel.load(order.source, config, device=order.device, dtype=dtype)
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in order.calibration_ids]
    if is_awq and dtype is torch.float32:
        from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear

        # The class rejects float32 although it supports it: it packs layers quantized in float32 with float16 scales.
        AwqTorchLinear.SUPPORTS_DTYPES = [*AwqTorchLinear.SUPPORTS_DTYPES, torch.float32]
        _search_on_copies()
    backend_options = {"backend": BACKEND.AWQ_TORCH} if is_awq and order.device == "cpu" else {}
    model.quantize(rows, batch_size=4, **backend_options)
    model.save(order.out)


def _search_on_copies() -> None:
    """Patch the scale search of AWQ in gptqmodel 7.6, which destroys float32 weights on a CPU.

    The search modifies the weights in place for each scale and then restores them from a backup. The backup is
    `weight.detach()` converted to float32 on the CPU. For weights that are already float32 on the CPU, this conversion
    does not copy, so the backup shares their memory. The patch makes `detach` return a copy.
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
