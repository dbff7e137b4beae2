"""The attention that the engines over a `transformers` module put in the place of its sdpa."""

from __future__ import annotations

from typing import Any

import torch

from runtime_matrix.runtimes.engines.grouped_attention import attend_by_kernel, can_group, register
from runtime_matrix.runtimes.engines.shared_prefix import BranchCall, attend_shared

KERNEL = "runtime_matrix_grouped"  # torch's fused kernel


def use_kernel(module: Any, attention: str) -> None:
    """Have the module attend by `attend` from now on, where it was loaded with sdpa and lets its attention be named."""
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
    """Attention in the signature of transformers' interface; `branch` comes through the model's keyword arguments."""
    if branch is not None:
        return attend_shared(module, query, key, value, attention_mask, branch, **others)
    return attend_by_kernel(module, query, key, value, attention_mask, **others)
