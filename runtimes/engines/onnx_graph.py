"""Exports a `transformers` model as one ONNX graph, for all engines that read ONNX; `graph_forms` has the forms."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import re
import warnings
from pathlib import Path
from typing import Any, cast

import torch

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import (
    GraphWeights,
    Hardware,
    LoadRequest,
    ModelSource,
    Phase,
    Unsupported,
    Weights,
)
from runtime_matrix.runtimes.engines.graph_forms import Form
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all, require

GRAPH = "model.onnx"
_EXPORTER = (
    "torch.onnx._internal.exporter._core",
    "torch._functorch.partitioners",
    "torch._inductor.decomposition",
    "onnxscript.rewriter",
    "onnxscript.function_libs.torch_lib.ops",
    "onnx.reference",
)
_VERSION = 3  # to be increased when the exported graph changes


def check(extra: str, weights: Weights) -> None:
    """Raise Unsupported if the export packages are missing, or if the weights cannot be exported.

    `extra` is the project's extra that installs the packages.
    """
    if getattr(weights, "needs_calibration", False):  # `exported` receives no calibration text
        raise Unsupported("weights that need calibration cannot be exported as a graph: use runtime=eager with them")
    require("onnx", extra)
    require("onnxscript", extra)


def _onnxruntime_version() -> str:
    """Return the version of the module, which several distributions provide: onnxruntime, onnxruntime-gpu."""
    import onnxruntime

    return str(onnxruntime.__version__)


def exported(model: ModelSource, weights: Weights, dtype: str, hw: Hardware, phase: Phase, form: Form) -> Path:
    """Return the folder of the model's graph in the artifact cache; export it, and quantize `onnx` weights, if missing.

    Imports of the exporter are timed under `phase("import")`; they happen only if the graph is exported. Raises
    Unsupported for a model that cannot be exported.
    """
    packer = cast(GraphWeights, weights) if weights.form == "onnx" else None
    made_from = _made_from(model, weights, dtype, form)

    def build(folder: Path) -> None:
        with phase("import"):
            import_all((*full.modules_of(model), *_EXPORTER))
        on_host = Hardware("cpu", hw.threads, hw.artifacts)
        export(weights.load(LoadRequest(model, dtype, "sdpa", on_host)), folder, form)

    dense = artifacts.entry(hw.artifacts, "onnx", made_from, build)
    if packer is None:
        return dense
    made_from = _packed_from(made_from, weights)

    def pack(folder: Path) -> None:
        with phase("import"):
            import_all(packer.packers)
        packer.pack(dense, folder)

    return artifacts.entry(hw.artifacts, "onnx", made_from, pack)


def _made_from(model: ModelSource, weights: Weights, dtype: str, form: Form) -> dict[str, Any]:
    """Return the key of the exported graph; of weights that are packed in the graph, of the dense one."""
    return {
        "model": model.digest,
        "dtype": dtype,
        "weights": {"name": "full"} if weights.form == "onnx" else dict(weights.identity),
        "graph": {"version": _VERSION, **form.identity},
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "onnxscript")},
    }


def _packed_from(dense: dict[str, Any], weights: Weights) -> dict[str, Any]:
    return dense | {"weights": dict(weights.identity), "onnxruntime": _onnxruntime_version()}


def stored(model: ModelSource, weights: Weights, dtype: str, hw: Hardware, form: Form) -> tuple[Path | None, bool]:
    """Return the folder of the graph that `exported` finds, None if there is none, and whether there is a dense one."""
    made_from = _made_from(model, weights, dtype, form)
    has_dense = artifacts.has(hw.artifacts, "onnx", made_from)
    if weights.form == "onnx":
        made_from = _packed_from(made_from, weights)
    found = artifacts.has(hw.artifacts, "onnx", made_from)
    return artifacts.place(hw.artifacts, "onnx", made_from) if found else None, has_dense


def context_length(model: ModelSource) -> int | None:
    """Return the maximum number of tokens per row from the model's configuration; None: it states no limit."""
    config = full.config_of(model.folder) if model.folder is not None else full.random_config(model.architecture or {})
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def window(model: ModelSource) -> int | None:
    """Return the size of the sliding window in the model's configuration, in tokens; the graph says if it is used."""
    config = full.config_of(model.folder) if model.folder is not None else full.random_config(model.architecture or {})
    return getattr(config.get_text_config(), "sliding_window", None)


def weight_bytes(folder: Path) -> int:
    """Return the size of the graph's initializers in bytes, in their stored types."""
    import onnx

    tensors = onnx.load(folder / GRAPH, load_external_data=False).graph.initializer
    return sum(math.ceil(math.prod(tensor.dims) * _bits(tensor.data_type) / 8) for tensor in tensors)


def dense_products(folder: Path) -> int:
    """Return the number of the graph's matrix products with constant weights that are not quantized."""
    import onnx

    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    return sum(node.op_type in {"MatMul", "Gemm"} and node.input[1] in constants for node in graph.node)


def _bits(kind: int) -> int:
    from onnx import TensorProto

    name = TensorProto.DataType.Name(kind).lower()  # such as float, bfloat16, uint4, float8e4m3fn
    digits = re.search(r"\d+", name)
    return {"float": 32, "double": 64, "bool": 8}.get(name) or (int(digits[0]) if digits else 8)


def export(module: Any, folder: Path, form: Form) -> None:
    """Write a `transformers` module as `model.onnx` into `folder`, with its weights in the same folder.

    Raises Unsupported if `torch.onnx.export` cannot export the module.
    """
    graph = form.graph(module).eval()
    try:
        # The exporter reports its progress on standard output and warns about its own internals.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                graph.arguments(),
                folder / GRAPH,
                dynamo=True,
                opset_version=form.opset,
                input_names=[*graph.example(), *graph.held_names],
                output_names=graph.output_names,
                dynamic_shapes=graph.dynamic(),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise Unsupported(f"torch.onnx.export cannot export this model: {str(error).splitlines()[0]}") from error
