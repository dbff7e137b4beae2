"""Attention of many rows over one prefix that is held once: over the prefix, over each row's own part, then merged.

The two parts are merged by the logarithm of their sums of exponentials, which gives attention over both exactly
(Juravsky et al. 2024, *Hydragen*, arXiv 2402.05099). Queries of all rows meet the prefix in one product.
Shapes: B rows, H query heads, G key-value heads, T new tokens, P tokens of the prefix, S own slots, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from runtimes.engines.slots import SlotCache, check_rewind

NAME = "runtime_matrix_shared_prefix"


class Branch:
    """Rows that go on from row 0 of `trunk`, each with slots of its own."""

    def __init__(self, trunk: SlotCache, own: SlotCache):
        self.trunk, self.own = trunk, own
        self.shared_tokens = trunk.row_lengths[0]
        self.attended = 0  # layers that have attended to the prefix in this forward

    @property
    def lengths(self) -> list[int]:
        return [self.shared_tokens + length for length in self.own.row_lengths]

    def select(self, rows: Sequence[int]) -> Branch:
        return Branch(self.trunk, self.own.select(rows))

    def rewind(self, lengths: Sequence[int]) -> None:
        check_rewind(self.lengths, lengths)
        self.own.rewind([length - self.shared_tokens for length in lengths])

    def replace(self, rows: Sequence[int], source: Branch) -> None:
        if source.trunk is not self.trunk:
            raise ValueError("rows of another prefix cannot take a place among these")
        self.own.replace(rows, source.own)

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values (1, G, P, D)."""
        self.attended += 1
        held = slice(0, self.shared_tokens)
        return self.trunk.keys[layer][:1, :, held], self.trunk.values[layer][:1, :, held]


def can_share(module: Any, attention: str) -> bool:
    """Is the model's attention one that may be put in place of by this one, and nothing but a scaled softmax?"""
    config = module.config.get_text_config()
    has_more = any(getattr(config, name, None) for name in ("attn_logit_softcapping", "attn_logit_softcap"))
    return attention == "sdpa" and bool(getattr(module, "_supports_attention_backend", False)) and not has_more


def attend_shared(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    branch: Branch | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the signature of transformers' interface; `branch` travels through the model's keyword arguments."""
    if branch is None or others.get("s_aux") is not None or others.get("position_bias") is not None:
        raise ValueError("this model's attention cannot share a prefix: set scoring.share_prefix=false")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    own_BHTD, own_sums_BHT = _own_part(query, key, value, attention_mask, scale)
    shared_BHTD, shared_sums_BHT = _shared_part(query, *branch.prefix(module.layer_idx), scale)
    weight_BHT1 = (shared_sums_BHT - own_sums_BHT).sigmoid()[..., None].to(query.dtype)
    return torch.lerp(own_BHTD, shared_BHTD, weight_BHT1).transpose(1, 2).contiguous(), None


def _own_part(
    query_BHTD: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    groups = query_BHTD.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    is_causal = mask is None and query_BHTD.shape[2] > 1
    return _attend(query_BHTD, key, value, scale, mask, is_causal)


def _shared_part(
    query_BHTD: torch.Tensor, key_1GPD: torch.Tensor, value_1GPD: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, heads, tokens, width = query_BHTD.shape
    groups = key_1GPD.shape[1]
    folded = query_BHTD.reshape(rows, groups, heads // groups, tokens, width).permute(1, 0, 2, 3, 4)
    found, sums = _attend(folded.reshape(1, groups, -1, width), key_1GPD, value_1GPD, scale, None, False)
    shape = (groups, rows, heads // groups, tokens)
    found = found.reshape(*shape, width).permute(1, 0, 2, 3, 4).reshape(query_BHTD.shape)
    return found, sums.reshape(shape).permute(1, 0, 2, 3).reshape(rows, heads, tokens)


def _attend(
    query_BHTD: torch.Tensor,
    key_BHSD: torch.Tensor,
    value_BHSD: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    is_causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the attention and the logarithm of each softmax's denominator (B, H, T), by torch's own kernels."""
    bias = None if mask is None else torch.zeros_like(mask, dtype=query_BHTD.dtype).masked_fill_(~mask, -torch.inf)
    if query_BHTD.device.type == "cpu":
        found, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query_BHTD, key_BHSD, value_BHSD, 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return found, sums
    if bias is not None:
        bias = _aligned(bias).expand(*query_BHTD.shape[:3], -1)
    found, sums, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query_BHTD, key_BHSD, value_BHSD, bias, True, 0.0, is_causal, scale=scale
    )
    return found, sums[..., : query_BHTD.shape[2]]


def _aligned(bias_BHTS: torch.Tensor) -> torch.Tensor:
    """The kernel for CUDA reads rows of a mask that start at multiples of 16 bytes."""
    slots = bias_BHTS.shape[-1]
    return torch.nn.functional.pad(bias_BHTS, (0, -slots % 8))[..., :slots]


AttentionInterface.register(NAME, attend_shared)
AttentionMaskInterface.register(NAME, sdpa_mask)
