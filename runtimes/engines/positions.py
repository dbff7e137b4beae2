"""Which tokens' outputs a forward returns. Shapes: B rows, T new tokens of a row, K wanted positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def last_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Return (B, 1): the index into T of each row's last real token, on the host."""
    return torch.tensor(lengths)[:, None] - 1


def is_step(tokens: int, at_BK: torch.Tensor | None) -> bool:
    """Say whether each row has one new token, and its outputs are wanted: then K = 1 and every index is 0."""
    return tokens == 1 and (at_BK is None or at_BK.shape[1] == 1)
