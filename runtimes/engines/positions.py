"""The positions at which a forward returns outputs. Shapes: B rows, T new tokens per row, K requested positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def last_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Return (B, 1): the index into T of each row's last real token, on the host."""
    return torch.tensor(lengths)[:, None] - 1


def is_step(tokens: int, at_BK: torch.Tensor | None) -> bool:
    """Return whether this is a decode step: one new token per row, outputs at that token (K = 1, all indices 0)."""
    return tokens == 1 and (at_BK is None or at_BK.shape[1] == 1)
