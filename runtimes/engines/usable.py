"""Selects the dtype and attention that a device supports, closest to the configured ones."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch

from runtime_matrix.runtimes.base import ModelSource, Unsupported, Weights

FLASH = "flash_attention_2"
_FLASH_CAPABILITY = (8, 0)  # minimum compute capability: flash-attn 2 has kernels for Ampere and later


def gpu_dtypes(weights: Weights, model: ModelSource) -> Sequence[str]:
    """Return the dtypes that the weights' GPU kernels support, the preferred one first; empty: any dtype."""
    restricted = getattr(weights, "gpu_dtypes", None)
    return restricted(model) if restricted is not None else ()


def usable_attention(attention: str, dtype: str, device: str) -> tuple[str, tuple[str, ...]]:
    """Return transformers' name of the attention and notes of replacements. Unsupported for an unknown name."""
    if attention not in ("sdpa", "eager", FLASH):
        raise Unsupported(f"runtime.engine.attention={attention} is unknown: use sdpa, eager or flash_attention_2")
    if attention != FLASH:
        return attention, ()
    lacks = [
        *(["a CUDA device"] if device != "cuda" else []),
        *([_needs_capability()] if device == "cuda" and torch.cuda.get_device_capability() < _FLASH_CAPABILITY else []),
        *(["the package flash-attn"] if importlib.util.find_spec("flash_attn") is None else []),
        *(["float16 or bfloat16"] if dtype == "float32" else []),
    ]
    if lacks:
        return "sdpa", (f"flash_attention_2 needs {', '.join(lacks)}: sdpa was used",)
    return attention, ("rows of different lengths used sdpa, since flash_attention_2 takes no mask",)


def _needs_capability() -> str:
    present, needed = (
        ".".join(map(str, capability)) for capability in (torch.cuda.get_device_capability(), _FLASH_CAPABILITY)
    )
    return f"compute capability {needed} (found {present})"


def usable_dtype(dtype: str, device: str, kernels: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Return torch's name of the dtype and notes of replacements. `kernels` are the weights' `gpu_dtypes`."""
    if device == "cuda" and kernels and dtype not in kernels:
        return kernels[0], (f"these weights have no kernels for {dtype} on a GPU: {kernels[0]} was used",)
    if dtype == "bfloat16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        return "float16", ("bfloat16 is not supported by this device: float16 was used",)
    return dtype, ()
