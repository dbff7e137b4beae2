"""Attention of query heads that share keys and values, without copying those for each head.

The queries of a group are laid side by side, as if they were further tokens: they meet the same keys under the same
mask. A copy for each query head would be read and written at every step, and is as large as the cache times the heads
of a group. Shapes: B rows, H query heads, G key-value heads, R = H / G, T new tokens, S visible slots, D head width.
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

PRODUCTS = "runtime_matrix_products"  # plain products, for graphs that other engines read

Attention = Callable[..., tuple[torch.Tensor, None]]  # in the signature of transformers' interface

_FOLDED_TOKENS = 64  # above which the mask, laid side by side too, is larger than the copies that are saved
_UNKNOWN = ("s_aux", "softcap")  # what some models add to the scores, and transformers' function leaves out or refuses


def register(name: str, attend: Attention) -> None:
    """Tell transformers of an attention that a model's configuration may name; again and again, if need be."""
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)


def use_products(module: Any) -> None:
    """Have a module that was loaded with sdpa attend by products, where it lets its attention be named."""
    if can_group(module, "sdpa"):
        register(PRODUCTS, attend_by_products)
        module.config.get_text_config()._attn_implementation = PRODUCTS


def can_group(module: Any, attention: str) -> bool:
    """Does the model hand its attention to a function that can be named, and is that `sdpa`?"""
    return attention == "sdpa" and bool(getattr(module, "_supports_attention_backend", False))


def attend_by_kernel(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the signature of transformers' interface."""
    _check(others)
    repeats, tokens = query.shape[1] // key.shape[1], query.shape[2]
    # A causal square without a mask has kernels that read grouped heads; transformers finds them.
    is_square = attention_mask is None and tokens > 1
    if repeats == 1 or is_square or tokens > _FOLDED_TOKENS or not _is_plain(attention_mask, others):
        return _transformers(module, query, key, value, attention_mask, others)
    folded = _fold(query, key.shape[1])
    if attention_mask is not None and tokens > 1:
        attention_mask = attention_mask.repeat(1, 1, repeats, 1)
    found = scaled_dot_product_attention(folded, key, value, attention_mask, scale=others.get("scaling"))
    return _unfold(found, query.shape), None


def attend_by_products(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The same by products and a softmax; the queries are scaled, which are few, and never the keys."""
    _check(others)
    if attention_mask is None or not _is_plain(attention_mask, others):
        return _transformers(module, query, key, value, attention_mask, others)
    rows, heads, tokens, width = query.shape
    groups = key.shape[1]
    scaling = others.get("scaling")
    folded = _fold(query * (width**-0.5 if scaling is None else scaling), groups)
    scores = torch.matmul(folded, key.transpose(2, 3)).view(rows, groups, heads // groups, tokens, -1)
    # Each token sees itself: no row of the softmax is empty, and the lowest number serves as well as minus infinity.
    scores = torch.where(attention_mask[:, :, None], scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1).view(rows, groups, heads // groups * tokens, -1)
    return _unfold(torch.matmul(weights, value), query.shape), None


def _check(others: Mapping[str, object]) -> None:
    """Raise Unsupported for a model that adds to its scores what no kernel here knows."""
    added = [name for name in _UNKNOWN if others.get(name) is not None]
    if added:
        raise Unsupported(f"this model's attention has {' and '.join(added)}: use runtime.engine.attention=eager")


def _is_plain(mask: torch.Tensor | None, others: Mapping[str, object]) -> bool:
    """Is the mask ours, (B, 1, T, S) of truth values, or none? Some models make one of their own for each head."""
    is_ours = mask is None or (mask.dtype is torch.bool and mask.shape[1] == 1)
    return is_ours and others.get("position_bias") is None


def _fold(query_BHTD: torch.Tensor, groups: int) -> torch.Tensor:
    """Return (B, G, R × T, D)."""
    rows, heads, tokens, width = query_BHTD.shape
    return query_BHTD.reshape(rows, groups, heads // groups * tokens, width)


def _unfold(found: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return (B, T, H, D)."""
    rows, heads, tokens, _ = shape
    return found.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous()


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
