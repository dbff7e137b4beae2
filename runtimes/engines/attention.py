"""The attention functions that replace those of transformers in a module, and that an observation can watch."""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from runtime_matrix.runtimes.engines.grouped_attention import attend_by_kernel, can_group, register
from runtime_matrix.runtimes.engines.observation import Observation
from runtime_matrix.runtimes.engines.shared_prefix import BranchCall, attend_shared

KERNEL = "runtime_matrix_grouped"  # torch's fused kernel
EAGER = "runtime_matrix_eager"  # the model's own eager attention


def use_kernel(module: Any, attention: str) -> None:
    """Make the module use `attend`, if it was loaded with sdpa and supports a registered attention function."""
    if can_group(module, attention):
        register(KERNEL, attend)
        module.config.get_text_config()._attn_implementation = KERNEL


def use_observed_eager(module: Any) -> None:
    """Make a module that was loaded with eager attention use `attend_eagerly`, which computes the same."""
    AttentionInterface.register(EAGER, attend_eagerly)
    AttentionMaskInterface.register(EAGER, eager_mask)
    module.config.get_text_config()._attn_implementation = EAGER


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    branch: BranchCall | None = None,
    observation: Observation | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention output (B, T, H, D); the signature is that of transformers' `AttentionInterface`.

    The model passes `branch` and `observation` through as keyword arguments. None: attention without a shared prefix,
    and without an observation.
    """
    if branch is not None:
        return attend_shared(module, query, key, value, attention_mask, branch, **others)
    if observation is not None:
        observation.add_queries(query, key, attention_mask, others.get("scaling"))
    return attend_by_kernel(module, query, key, value, attention_mask, **others)


def attend_eagerly(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    observation: Observation | None = None,
    **others: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and the weights (B, H, T, S) of the model's own eager attention; see `attend`."""
    own = sys.modules[type(module).__module__].eager_attention_forward
    output, weights_BHTS = own(module, query, key, value, attention_mask, **others)
    if observation is not None:
        observation.add_weights(weights_BHTS, None if attention_mask is None else attention_mask == 0)
    return output, weights_BHTS
