"""The attention function that replaces sdpa in a `transformers` module."""

from __future__ import annotations

from typing import Any

import torch

from runtime_matrix.runtimes.engines.grouped_attention import attend_by_kernel, can_group, register
from runtime_matrix.runtimes.engines.shared_prefix import BranchCall, attend_shared

KERNEL = "runtime_matrix_grouped"  # torch's fused kernel


def use_kernel(module: Any, attention: str) -> None:
    """Make the module use `attend`, if it was loaded with sdpa and supports a registered attention function."""
    if can_group(module, attention):
        register(KERNEL, attend)
        module.config.get_text_config()._attn_implementation = KERNEL


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    branch: BranchCall | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention output (B, T, H, D); the signature is that of transformers' `AttentionInterface`.

    The model passes `branch` through as a keyword argument. None: attention without a shared prefix.
    """
    if branch is not None:
        return attend_shared(module, query, key, value, attention_mask, branch, **others)
    return attend_by_kernel(module, query, key, value, attention_mask, **others)
