"""The types of llama.cpp's keys and values: floats, and blocks of small integers that share a scale.

Every forward stores its keys and values in the cache first and attends to what is stored, so that prompts too are
computed with rounded keys and values. Imports nothing large: the options are checked before a cell is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime_matrix.runtimes.base import ModelSource, Unsupported
from runtime_matrix.runtimes.gguf_header import GgufError, is_gguf, read_header


@dataclass(frozen=True)
class KvType:
    """A type of ggml: `block` values take `block_bytes`, the block's scale included."""

    number: int  # in the enum ggml_type
    ggml_name: str
    block: int
    block_bytes: int

    @property
    def is_quantized(self) -> bool:
        """Return whether values share a scale."""
        return self.block > 1


KV_TYPES = {
    "float32": KvType(0, "F32", 1, 4),
    "float16": KvType(1, "F16", 1, 2),
    "bfloat16": KvType(30, "BF16", 1, 2),
    "q8_0": KvType(8, "Q8_0", 32, 34),  # 32 int8 values and a scale in float16
    "q4_0": KvType(2, "Q4_0", 32, 18),
}


@dataclass(frozen=True)
class KvShape:
    """What a token adds to the cache: in each layer, `heads` keys and values."""

    layers: int
    heads: int
    key_width: int
    value_width: int


def check_options(options: Mapping[str, Any]) -> None:
    """Raise Unsupported for an unknown `kv_dtype`, and for quantized values without `flash_attention`."""
    name = options.get("kv_dtype")
    if name is None:
        return
    if name not in KV_TYPES:
        raise Unsupported(f"kv_dtype={name} is unknown: use {', '.join(KV_TYPES)}")
    if KV_TYPES[name].is_quantized and not options.get("flash_attention"):
        raise Unsupported(f"kv_dtype={name} needs flash_attention=true: llama.cpp quantizes values with it alone")


def check_model(model: ModelSource, kv_dtype: str) -> None:
    """Raise Unsupported if a head of the model is no whole number of blocks. Loads nothing."""
    kind = KV_TYPES[kv_dtype]
    shape = shape_of(model) if kind.is_quantized else None
    if shape is None:
        return
    width = next((width for width in (shape.key_width, shape.value_width) if width % kind.block), None)
    if width is not None:
        raise Unsupported(
            f"runtime.engine.kv_dtype={kv_dtype} has blocks of {kind.block} values, and the model's heads have "
            f"{width}: use float16"
        )


def bytes_per_token(model: ModelSource, kv_dtype: str) -> int | None:
    """Return the bytes that a token adds to the cache of one row; None if the model does not state its shape."""
    kind, shape = KV_TYPES[kv_dtype], shape_of(model)
    if shape is None:
        return None
    values = shape.layers * shape.heads * (shape.key_width + shape.value_width)
    return values * kind.block_bytes // kind.block


def shape_of(model: ModelSource) -> KvShape | None:
    """Return the shape of a token's keys and values, from a GGUF file's header or a transformers configuration.

    None if it is not stated, or if the file cannot be read: then the engine says what is wrong with it.
    """
    from runtime_matrix.runtimes.weights.gguf_file import stored_config

    if model.folder is not None and is_gguf(model.folder):
        try:
            header = read_header(model.folder)
        except GgufError:
            return None
        stated: dict[str, Any] = {key: header.of_architecture(name) for key, name in _HEADER_KEYS.items()}
    else:
        config = stored_config(model)
        stated = {key: config.get(name) for key, name in _CONFIG_KEYS.items()}
    width = stated["width"] or (stated["hidden"] or 0) // (stated["heads"] or 1)
    layers, heads = stated["layers"], stated["kv_heads"] or stated["heads"]
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int) and width):
        return None
    return KvShape(layers, heads, width, stated.get("value_width") or width)


_HEADER_KEYS = {
    "layers": "block_count",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "width": "attention.key_length",
    "value_width": "attention.value_length",
    "hidden": "embedding_length",
}
_CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "width": "head_dim",
    "hidden": "hidden_size",
}
