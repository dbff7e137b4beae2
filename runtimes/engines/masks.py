"""The causal masks of a model's layers, whose windows `runtimes.windows` describes.

A model whose layers all see the same tokens takes one mask; one with several layer types takes a mask for each.
Shapes: B rows, T new tokens per row, S slots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from runtime_matrix.runtimes.windows import FULL, SLIDING, Windows

Masks = torch.Tensor | dict[str, torch.Tensor]  # key: layer type, as `transformers` names it


def causal(slots_S: torch.Tensor, positions_BT: torch.Tensor, windows: Windows) -> Masks:
    """Return the boolean masks (B, 1, T, S): a token sees the slots up to its position, in its window. Slot = position.

    Padding sees itself, so no softmax is over nothing.
    """
    last_BT1 = positions_BT[:, None, :, None]
    full = slots_S <= last_BT1
    if windows.size is None:
        return full
    return by_type(full, full & (slots_S > last_BT1 - windows.size), windows)


def by_type(full: torch.Tensor, near: torch.Tensor, windows: Windows) -> Masks:
    """Return the masks of layers that see all earlier tokens and of layers with a window; one if all have a window."""
    return {FULL: full, SLIDING: near} if windows.is_mixed else near


def mapped(masks: Masks, change: Callable[[torch.Tensor], torch.Tensor]) -> Masks:
    """Return the masks, each changed by a function."""
    return {kind: change(mask) for kind, mask in masks.items()} if isinstance(masks, dict) else change(masks)


def additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a boolean mask as a term of the scores: 0 where a slot is seen, else the lowest number of the dtype."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
