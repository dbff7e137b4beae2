"""Exports a `transformers` model as one ONNX graph with past and present, for every engine that reads ONNX.

Inputs: ids_BT, positions_BT, mask_BTS (B, 1, T, P + T; true where a slot is seen), at_BK, and key.i, value.i
(B, H, P, D) a layer. Outputs: logits (B, K, V), and new_key.i, new_value.i (B, H, P + T, D) a layer.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Unsupported, Weights
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all, require

OPSET = 20
GRAPH = "model.onnx"
_EXPORTER = (
    "torch.onnx._internal.exporter._core",
    "torch._functorch.partitioners",
    "torch._inductor.decomposition",
    "onnxscript.rewriter",
    "onnxscript.function_libs.torch_lib.ops",
    "onnx.reference",
)
_FORM = 1  # raised when what is written changes


def check(extra: str) -> None:
    """Raise Unsupported where what exports a graph is not installed; `extra` brings it."""
    require("onnx", extra)
    require("onnxscript", extra)


def _onnxruntime_version() -> str:
    """Return the version of the module, which several distributions bring: onnxruntime, onnxruntime-gpu."""
    import onnxruntime

    return str(onnxruntime.__version__)


def exported(model: ModelSource, weights: Weights, dtype: str, hw: Hardware, phase: Phase) -> Path:
    """Return the folder of the model's graph from the artifact cache, exported (and packed) where it is not there.

    What exporting imports goes under `phase("import")`, and is imported only where something is exported.
    """
    packer: Any = weights if weights.form == "onnx" else None
    made_from = {
        "model": model.digest,
        "dtype": dtype,
        "weights": {"name": "full"} if packer else dict(weights.identity),
        "graph": _FORM,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "onnxscript")},
    }

    def build(folder: Path) -> None:
        with phase("import"):
            import_all((*full.modules_of(model), *_EXPORTER))
        on_host = Hardware("cpu", hw.threads, hw.artifacts)
        export(weights.load(model, dtype, "sdpa", on_host), folder)

    dense = artifacts.entry(hw.artifacts, "onnx", made_from, build)
    if packer is None:
        return dense
    made_from |= {"weights": dict(weights.identity), "onnxruntime": _onnxruntime_version()}

    def pack(folder: Path) -> None:
        with phase("import"):
            import_all(packer.packers)
        packer.pack(dense, folder)

    return artifacts.entry(hw.artifacts, "onnx", made_from, pack)


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the graph's constants, in the types that it holds them in."""
    import onnx

    tensors = onnx.load(folder / GRAPH, load_external_data=False).graph.initializer
    return sum(math.ceil(math.prod(tensor.dims) * _bits(tensor.data_type) / 8) for tensor in tensors)


def _bits(kind: int) -> int:
    from onnx import TensorProto

    name = TensorProto.DataType.Name(kind).lower()  # such as float, bfloat16, uint4, float8e4m3fn
    digits = re.search(r"\d+", name)
    return {"float": 32, "double": 64, "bool": 8}.get(name) or (int(digits[0]) if digits else 8)


def export(module: Any, folder: Path) -> None:
    """Write a `transformers` module as `model.onnx` (and its weights beside it) into `folder`."""
    wrapped = _PastPresent(module).eval()
    layers, example = wrapped.layers, _example(wrapped, module.dtype)
    batch, tokens, past = torch.export.Dim("B"), torch.export.Dim("T"), torch.export.Dim("P")
    slots, wanted = torch.export.Dim("S"), torch.export.Dim("K")
    held = [{0: batch, 2: past} for _ in range(2 * layers)]
    shapes = (
        {0: batch, 1: tokens},
        {0: batch, 1: tokens},
        {0: batch, 2: tokens, 3: slots},
        {0: batch, 1: wanted},
        held,
    )
    names = [f"{kind}.{layer}" for kind in ("key", "value") for layer in range(layers)]
    try:
        # The exporter reports its progress on standard output and warns about its own internals.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapped,
                example,
                folder / GRAPH,
                dynamo=True,
                opset_version=OPSET,
                input_names=["ids", "positions", "mask", "at", *names],
                output_names=["logits", *(f"new_{name}" for name in names)],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise Unsupported(f"torch.onnx.export cannot export this model: {str(error).splitlines()[0]}") from error


class _PastPresent(torch.nn.Module):
    def __init__(self, module: Any):
        super().__init__()
        self.module = module
        text = module.config.get_text_config()
        self.layers: int = text.num_hidden_layers
        self.heads: int = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.width: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self._at: list[torch.Tensor] = []  # in a list, since export forbids assigning tensors to a module
        module.get_output_embeddings().register_forward_pre_hook(self._gather)

    @override
    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        at: torch.Tensor,
        held: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        self._at = [at]
        cache = _Concatenated(held[: self.layers], held[self.layers :])
        logits = self.module(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
        return (logits, *cache.keys, *cache.values)

    def _gather(self, head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (hidden_BTE,) = inputs
        index_BKE = self._at[0][:, :, None].expand(-1, -1, hidden_BTE.shape[-1])
        return (hidden_BTE.gather(1, index_BKE),)


class _Concatenated:
    """Stands for transformers' cache inside the graph: present = past + new, a layer at a time."""

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor]):
        self.keys, self.values = list(keys), list(values)

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer] = torch.cat([self.keys[layer], key], dim=2)
        self.values[layer] = torch.cat([self.values[layer], value], dim=2)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def _example(wrapped: _PastPresent, dtype: torch.dtype) -> tuple[Any, ...]:
    # All sizes differ and exceed one, so that the exporter takes none of them for another or for a constant.
    rows, tokens, past, wanted = 2, 5, 7, 3
    ids = torch.ones(rows, tokens, dtype=torch.long)
    positions = torch.arange(past, past + tokens).expand(rows, -1).contiguous()
    mask = torch.ones(rows, 1, tokens, past + tokens, dtype=torch.bool)
    at = torch.zeros(rows, wanted, dtype=torch.long)
    held = [torch.zeros(rows, wrapped.heads, past, wrapped.width, dtype=dtype) for _ in range(2 * wrapped.layers)]
    return ids, positions, mask, at, held
