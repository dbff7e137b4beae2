"""Grouped-query attention without a copy of the keys and values for each query head.

The queries of a group are folded into the token dimension, since they attend to the same keys under the same mask.
Copies for each query head would be written and read at every step, and would be R times as large as the cache.
Shapes: B rows, H query heads, G key-value heads, R = H / G, T new tokens per row, S visible slots, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from runtime_matrix.runtimes.base import Unsupported

PRODUCTS = "runtime_matrix_products"  # plain matrix products, for exported graphs

Attention = Callable[..., tuple[torch.Tensor, None]]  # in the signature of transformers' interface

_FOLDED_TOKENS = 64  # with more tokens per row, the folded mask is larger than the copies that folding saves
# Additions to the scores of some models, which transformers' function ignores or rejects.
_UNKNOWN = ("s_aux", "softcap")


def register(name: str, attend: Attention) -> None:
    """Register an attention function with transformers under `name`; registering it again is harmless."""
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)


def use_products(module: Any) -> None:
    """Make a module use `attend_by_products`, if it was loaded with sdpa and supports a registered function."""
    if can_group(module, "sdpa"):
        register(PRODUCTS, attend_by_products)
        module.config.get_text_config()._attn_implementation = PRODUCTS


def can_group(module: Any, attention: str) -> bool:
    """Return whether `attention` is sdpa and the model supports registered attention functions."""
    return attention == "sdpa" and bool(getattr(module, "_supports_attention_backend", False))


def attend_by_kernel(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention output (B, T, H, D) from torch's fused kernel.

    `query` is (B, H, T, D); `key` and `value` are (B, G, S, D). The signature is that of transformers'
    `AttentionInterface`. Raises Unsupported for a model that adds other terms to the scores.
    """
    _check(others)
    repeats, tokens = query.shape[1] // key.shape[1], query.shape[2]
    # For causal attention without a mask and a past, transformers selects kernels that support grouped heads.
    is_square = attention_mask is None and tokens > 1
    if repeats == 1 or is_square or tokens > _FOLDED_TOKENS or not _is_plain(attention_mask, others):
        return _transformers(module, query, key, value, attention_mask, others)
    folded = _fold(query, key.shape[1])
    if attention_mask is not None and tokens > 1:
        attention_mask = attention_mask.repeat(1, 1, repeats, 1)
    attended = scaled_dot_product_attention(folded, key, value, attention_mask, scale=others.get("scaling"))
    return _unfold(attended, query.shape), None


def attend_by_products(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As `attend_by_kernel`, by matrix products and a softmax; scales the queries, which are fewer than the keys."""
    _check(others)
    if attention_mask is None or not _is_plain(attention_mask, others):
        return _transformers(module, query, key, value, attention_mask, others)
    rows, heads, tokens, width = query.shape
    groups = key.shape[1]
    scaling = others.get("scaling")
    folded = _fold(query * (width**-0.5 if scaling is None else scaling), groups)
    scores = torch.matmul(folded, key.transpose(2, 3)).view(rows, groups, heads // groups, tokens, -1)
    # Each token attends to itself, so no row of the softmax is empty: the lowest finite number masks like -inf.
    scores = torch.where(attention_mask[:, :, None], scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1).view(rows, groups, heads // groups * tokens, -1)
    return _unfold(torch.matmul(weights, value), query.shape), None


def _check(others: Mapping[str, object]) -> None:
    """Raise Unsupported for a model that adds terms to its scores which no kernel here implements."""
    added = [name for name in _UNKNOWN if others.get(name) is not None]
    if added:
        raise Unsupported(f"this model's attention has {' and '.join(added)}: use runtime.engine.attention=eager")


def _is_plain(mask: torch.Tensor | None, others: Mapping[str, object]) -> bool:
    """Return whether the mask is None or boolean (B, 1, T, S); some models build their own mask for each head."""
    is_shared = mask is None or (mask.dtype is torch.bool and mask.shape[1] == 1)
    return is_shared and others.get("position_bias") is None


def _fold(query_BHTD: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the queries as (B, G, R × T, D): the heads of a group become tokens."""
    rows, heads, tokens, width = query_BHTD.shape
    return query_BHTD.reshape(rows, groups, heads // groups * tokens, width)


def _unfold(attended: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return (B, T, H, D) from (B, G, R × T, D); `shape` is that of the queries, (B, H, T, D)."""
    rows, heads, tokens, _ = shape
    return attended.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous()


def _transformers(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    others: Any,
) -> tuple[torch.Tensor, None]:
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    return attended
