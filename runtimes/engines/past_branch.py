"""Rows that go on from one prefix in a graph of the form `Past`: one row of the graph, whose mask keeps them apart.

The prefix is held once and nothing is padded. A row pays for the others' slots, which it attends to and ignores: so
batches want to be small beside the prefix. Shapes: B rows, T new tokens of a row, N of all rows, K wanted positions,
P slots held, S = P + N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.engines.past import PastCache
from runtime_matrix.runtimes.engines.rewind import check_rewind


@dataclass(frozen=True)
class PackedRows:
    """What the graph is given in place of the rows."""

    ids_1N: torch.Tensor
    positions_1N: torch.Tensor
    mask_1NS: torch.Tensor  # (1, 1, N, S)
    at_1K: torch.Tensor  # wanted tokens of all rows: B × K
    row_N: torch.Tensor


class PastBranch:
    """`memory` has one row, whose slots all rows share; `seen_BP` says which of them each row sees, in its order."""

    def __init__(self, memory: PastCache, seen_BP: torch.Tensor, lengths: Sequence[int], keeps: bool):
        self.memory, self.keeps = memory, keeps
        self._seen_BP, self._lengths, self._shared_tokens = seen_BP, list(lengths), 0

    @classmethod
    def from_trunk(cls, trunk: PastCache, rows: int, keeps: bool) -> PastBranch:
        """Return rows that go on from row 0 of `trunk` and read it in place; `keeps`: they hold what comes."""
        memory = trunk.first_row()
        branch = cls(memory, memory.used_BP.expand(rows, -1), memory.row_lengths * rows, keeps)
        branch._shared_tokens = memory.row_lengths[0]
        return branch

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self._lengths)

    def pack(self, ids_BT: torch.Tensor, lengths: Sequence[int], at_BK: torch.Tensor) -> PackedRows:
        """Return the first `lengths[b]` of the new tokens (B, T) of each row in one row of all, with its mask."""
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

    def advance(self, lengths: Sequence[int], packed: PackedRows, present: Sequence[torch.Tensor]) -> None:
        """Make `present` the past, in which each row sees its own new tokens."""
        tokens = len(packed.row_N)
        self.memory.advance([tokens], tokens, present)
        own_BN = torch.arange(len(self._lengths))[:, None] == packed.row_N
        self._seen_BP = torch.cat([self._seen_BP, own_BN], dim=1)
        self._lengths = [old + new for old, new in zip(self._lengths, lengths, strict=True)]

    def select(self, rows: Sequence[int]) -> PastBranch:
        """Return rows that read the same memory, in that order; nothing is copied."""
        index = list(rows)
        chosen = PastBranch(self.memory.first_row(), self._seen_BP[index], [self._lengths[at] for at in index], True)
        chosen._shared_tokens = self._shared_tokens
        return chosen

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        own = [length - self._shared_tokens for length in self._lengths]
        check_rewind(own, [length - self._shared_tokens for length in lengths])
        wanted_B1 = torch.tensor(list(lengths))[:, None]
        self._seen_BP = self._seen_BP & (self._seen_BP.cumsum(dim=1) <= wanted_B1)
        self._lengths = list(lengths)

    def replace(self, rows: Sequence[int], source: PastBranch) -> None:
        """Raise NotImplementedError: rows that share one memory do not take each other's places."""
        raise NotImplementedError("rows that share one memory do not take each other's places: scoring never asks")
