"""Writes a model as a GGUF file, the format of llama.cpp, into the artifact cache. Only Llama models are written."""

from __future__ import annotations

import importlib.metadata
import json
import math
from pathlib import Path
from typing import Any, cast

from runtime_matrix.runtimes import artifacts, windows
from runtime_matrix.runtimes.base import (
    GgufWeights,
    Hardware,
    LoadRequest,
    ModelSource,
    Phase,
    ReadOnlyJson,
    Unsupported,
    Weights,
)
from runtime_matrix.runtimes.gguf_header import is_gguf
from runtime_matrix.runtimes.weights import full, gguf_tensors, gguf_tokenizer
from runtime_matrix.runtimes.weights.packages import import_all, require

FILE = "model.gguf"
_FORM = 1  # version of the written file in the artifact key; increase it when the file changes
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # ggml's names of the dtypes
_ROPE_TYPES = ("default", "linear", "llama3")  # those that only scale the frequencies


def check(weights: Weights, dtype: str) -> None:
    """Raise Unsupported if the package is missing, or if the weights or their dtype cannot be written."""
    if getattr(weights, "needs_calibration", False):  # `written` receives no calibration text
        raise Unsupported("weights that need calibration cannot be written as GGUF: use runtime=eager with them")
    if dtype not in _TYPES:
        raise Unsupported(f"runtime.dtype={dtype} cannot be written as GGUF: use {', '.join(_TYPES)}")
    require("gguf", "llamacpp")
    weights_check = getattr(weights, "check", None)
    if weights_check is not None:
        weights_check(Hardware("cpu", 1))


def written(model: ModelSource, weights: Weights, dtype: str, hw: Hardware, phase: Phase) -> Path:
    """Return the model's GGUF file; write it if the artifact cache lacks it.

    A `model.folder` that is itself a GGUF file is returned unchanged. Weights of the form `gguf` are quantized from
    the float32 values. Raises Unsupported for a model whose computation GGUF does not describe.
    """
    packed = cast(GgufWeights, weights) if weights.form == "gguf" else None
    if model.folder is not None and is_gguf(model.folder):
        if packed is not None or not weights.keeps_values:
            raise Unsupported(f"{model.folder.name} already holds its weights as GGUF: use runtime/weights=full")
        return model.folder
    check_architecture(stored_config(model))
    tensor_type = _tensor_type(weights, dtype)
    made_from = _made_from(model, weights, dtype)

    def build(folder: Path) -> None:
        with phase("import"):
            import_all((*full.modules_of(model), "gguf"))
        request = LoadRequest(
            model, "float32" if packed is not None else dtype, "sdpa", Hardware("cpu", hw.threads, hw.artifacts)
        )
        write(weights.load(request), folder / FILE, tensor_type, model.folder)

    return artifacts.entry(hw.artifacts, "gguf", made_from, build) / FILE


def is_written(model: ModelSource, weights: Weights, dtype: str, hw: Hardware) -> bool:
    """Return whether `written` finds the file."""
    if model.folder is not None and is_gguf(model.folder):
        return True
    return artifacts.has(hw.artifacts, "gguf", _made_from(model, weights, dtype))


def _tensor_type(weights: Weights, dtype: str) -> str:
    return cast(GgufWeights, weights).tensor_type if weights.form == "gguf" else _TYPES[dtype]


def _made_from(model: ModelSource, weights: Weights, dtype: str) -> ReadOnlyJson:
    return {
        "model": model.digest,
        "weights": dict(weights.identity),
        "type": _tensor_type(weights, dtype),
        "form": _FORM,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "gguf")},
    }


def stored_config(model: ModelSource) -> ReadOnlyJson:
    """Return the model's configuration as JSON."""
    if model.folder is None:
        return model.architecture or {}
    config: ReadOnlyJson = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    return config


def check_architecture(config: ReadOnlyJson) -> None:
    """Raise Unsupported if llama.cpp's Llama graph would not compute what `transformers` computes."""
    model_type = config.get("model_type")
    if model_type != "llama":
        raise Unsupported(
            f"GGUF files are written for the model type llama, not {model_type}: convert the model with llama.cpp's "
            "convert_hf_to_gguf.py and pass model.path=FILE.gguf"
        )
    reason = windows.problem(config)
    if reason is None and windows.SLIDING in (config.get("layer_types") or ()):
        reason = "GGUF files are written for Llama, which has no sliding windows"
    if reason is not None:
        raise Unsupported(reason)
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise Unsupported(f"llama.cpp computes Llama with the activation silu, and the model has {activation}")
    rope_type = _rope(config).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        raise Unsupported(f"rope scaling of the type {rope_type} is not written: known: {', '.join(_ROPE_TYPES)}")


def _rope(config: ReadOnlyJson) -> ReadOnlyJson:
    """Return the rope options, which `transformers` before 5 stored as `rope_scaling` beside `rope_theta`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {**rope, "rope_type": rope.get("rope_type") or rope.get("type") or "default"}


def write(module: Any, file: Path, tensor_type: str, folder: Path | None = None) -> None:
    """Write a `transformers` Llama to `file`, with matrices in ggml's `tensor_type`, such as F32 or Q4_0.

    `folder` may hold a tokenizer.json, which is written if llama.cpp has its rules.
    """
    from gguf import GGUFWriter

    config = module.config
    check_architecture(config.to_dict())
    writer = GGUFWriter(file, "llama")
    _add_shape(writer, config)
    gguf_tokenizer.add(writer, config, folder)
    tensors = gguf_tensors.tensors(module, tensor_type)
    for tensor in tensors:
        tensor.declare(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:  # converted one by one, so that the model is in memory once
        writer.write_tensor_data(tensor.converted())
    writer.close()


def _add_shape(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(_theta(config)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _theta(config: Any) -> float:
    theta = (config.rope_parameters or {}).get("rope_theta")
    if theta is None or not math.isfinite(theta):
        raise Unsupported(f"the model states no base of its rotary embedding: rope_parameters={config.rope_parameters}")
    return float(theta)
