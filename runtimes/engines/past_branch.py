"""Rows that share a prefix in a graph of the form `Past`: they are packed into one row, and the mask separates them.

The prefix is stored once and nothing is padded. Each row also computes scores for the other rows' slots, which the mask
discards: packing pays only if the new tokens of a batch are few in comparison with the prefix.
Shapes: B rows, T new tokens per row, N new tokens of all rows, K requested positions, P slots, S = P + N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.engines.past import PastCache, in_window
from runtime_matrix.runtimes.engines.rewind import check_rewind


@dataclass(frozen=True)
class PackedRows:
    """The graph's inputs for the packed rows."""

    ids_1N: torch.Tensor
    positions_1N: torch.Tensor
    mask_1NS: torch.Tensor  # (1, 1, N, S)
    at_1K: torch.Tensor  # indices into N of the requested tokens of all rows: (1, B × K)
    row_N: torch.Tensor  # the row of each token


class PastBranch:
    """A cache of rows that share the slots of the only row of `memory`; `seen_BP` is true where a row sees a slot."""

    def __init__(self, memory: PastCache, seen_BP: torch.Tensor, lengths: Sequence[int], keeps: bool):
        self.memory, self.keeps = memory, keeps
        self._seen_BP, self._lengths, self._shared_tokens = seen_BP, list(lengths), 0

    @classmethod
    def from_trunk(cls, trunk: PastCache, rows: int, keeps: bool) -> PastBranch:
        """Return rows that continue row 0 of `trunk` and read it in place; `keeps`: new tokens are stored."""
        memory = trunk.first_row()
        branch = cls(memory, memory.used_BP.expand(rows, -1), memory.row_lengths * rows, keeps)
        branch._shared_tokens = memory.row_lengths[0]
        return branch

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self._lengths)

    def pack(self, ids_BT: torch.Tensor, lengths: Sequence[int], at_BK: torch.Tensor) -> PackedRows:
        """Pack the first `lengths[b]` of the new tokens of each row b into one row, with its mask."""
        lengths_B = torch.tensor(list(lengths))
        starts_B = lengths_B.cumsum(0) - lengths_B
        row_N = torch.repeat_interleave(lengths_B)
        token_N = torch.arange(len(row_N)) - starts_B[row_N]
        own_NN = (row_N[:, None] == row_N).tril_()
        return PackedRows(
            ids_BT[row_N, token_N][None],
            (torch.tensor(self._lengths)[row_N] + token_N)[None],
            torch.cat([self._seen_BP[row_N], own_NN], dim=1)[None, None],
            (starts_B[:, None] + at_BK).flatten()[None],
            row_N,
        )

    def window_mask(self, packed: PackedRows, size: int) -> torch.Tensor:
        """Return the mask of `packed` without the slots that are before each token's window of `size` tokens."""
        position_N1 = packed.positions_1N.T
        new_NN = packed.positions_1N.expand(len(position_N1), -1)
        near_N1S = in_window(self._seen_BP[packed.row_N], new_NN, position_N1, size)
        return packed.mask_1NS & near_N1S[None, None, :, 0]

    def advance(self, lengths: Sequence[int], packed: PackedRows, present: Sequence[torch.Tensor]) -> None:
        """Replace the past by `present` (1, H, P + N, D), in which each row sees its own new tokens only."""
        tokens = len(packed.row_N)
        self.memory.advance([tokens], tokens, present)
        own_BN = torch.arange(len(self._lengths))[:, None] == packed.row_N
        self._seen_BP = torch.cat([self._seen_BP, own_BN], dim=1)
        self._lengths = [old + new for old, new in zip(self._lengths, lengths, strict=True)]

    def select(self, rows: Sequence[int]) -> PastBranch:
        """Return the given rows, in that order, over the same memory; no keys or values are copied."""
        index = list(rows)
        lengths = [self._lengths[row] for row in index]
        selected = PastBranch(self.memory.first_row(), self._seen_BP[index], lengths, True)
        selected._shared_tokens = self._shared_tokens
        return selected

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer, or below the prefix."""
        own = [length - self._shared_tokens for length in self._lengths]
        check_rewind(own, [length - self._shared_tokens for length in lengths])
        lengths_B1 = torch.tensor(list(lengths))[:, None]
        self._seen_BP = self._seen_BP & (self._seen_BP.cumsum(dim=1) <= lengths_B1)
        self._lengths = list(lengths)

    def replace(self, rows: Sequence[int], source: PastBranch) -> None:
        """Raise NotImplementedError: rows that share one memory cannot be replaced."""
        raise NotImplementedError("rows that share one memory cannot be replaced: scoring does not need it")
