"""The KV cache for graphs whose input is the past and whose output is past + new: ONNX Runtime on a CPU.

All rows use the same slot indices; `used_BP` is true where a slot holds a token of the row.
Shapes: B rows, L tensors (keys and values of all layers), H key-value heads, P slots, T new tokens per row, S = P + T,
D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.engines.rewind import check_rewind

_SPARSE = 1.25  # ratio of slots to the longest row's tokens from which on compacting all rows saves time


@dataclass(frozen=True)
class PastShape:
    """The properties of a cache that do not depend on its rows."""

    tensors: int  # L
    heads: int
    width: int
    dtype: torch.dtype


class PastCache:
    """Implements `runtimes.base.Cache`. `past` holds L tensors (B, H, P, D); `advance` replaces them after a step."""

    def __init__(self, shape: PastShape, rows: int):
        self._shape = shape
        self.row_lengths = [0] * rows
        self.used_BP = torch.zeros(rows, 0, dtype=torch.bool)
        self.past = [torch.zeros(rows, shape.heads, 0, shape.width, dtype=shape.dtype)] * shape.tensors
        self._seen_BS: torch.Tensor | None = None  # slots visible in the last call with one token per row

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self.row_lengths)

    def mask(self, tokens: int) -> torch.Tensor:
        """Return (B, 1, T, S). Padding attends to itself, since a softmax over no slot would be NaN."""
        rows = len(self.row_lengths)
        if tokens == 1:
            own = torch.ones(rows, 1, dtype=torch.bool)
            self._seen_BS = torch.cat([self.used_BP, own], dim=1)
            return self._seen_BS[:, None, None, :]
        past = self.used_BP[:, None, :].expand(-1, tokens, -1)
        new = torch.ones(tokens, tokens, dtype=torch.bool).tril().expand(rows, -1, -1)
        return torch.cat([past, new], dim=2)[:, None]

    def window_mask(self, mask: torch.Tensor, size: int) -> torch.Tensor:
        """Return `mask` (B, 1, T, S) without the slots whose tokens are before each token's window of `size` tokens."""
        new_BT = torch.tensor(self.row_lengths)[:, None] + torch.arange(mask.shape[2])
        return mask & in_window(self.used_BP, new_BT, new_BT, size)[:, None]

    def advance(self, lengths: Sequence[int], tokens: int, present: Sequence[torch.Tensor]) -> None:
        """Replace the past by `present` (B, H, P + T, D). Of row b's `tokens` new ones, `lengths[b]` are real."""
        self.past = list(present)
        if tokens == 1 and self._seen_BS is not None and all(lengths):
            self.used_BP = self._seen_BS
        else:
            self.used_BP = torch.cat([self.used_BP, _first(lengths, tokens)], dim=1)
        self.row_lengths = [old + new for old, new in zip(self.row_lengths, lengths, strict=True)]

    def first_row(self) -> PastCache:
        """Return a cache of row 0 that shares this cache's memory; valid until this cache changes."""
        row = PastCache(self._shape, 1)
        row.row_lengths, row.used_BP = self.row_lengths[:1], self.used_BP[:1]
        row.past = [held[:1] for held in self.past]
        return row

    def select(self, rows: Sequence[int]) -> PastCache:
        """Return a copy of the given rows, in that order."""
        selected = PastCache(self._shape, len(rows))
        selected.row_lengths = [self.row_lengths[row] for row in rows]
        used_BP = self.used_BP[list(rows)]
        kept = used_BP.any(dim=0).nonzero()[:, 0]  # drops slots that none of the rows uses
        selected.used_BP = used_BP[:, kept].contiguous()
        index = torch.tensor(list(rows))
        selected.past = [held.index_select(0, index).index_select(2, kept) for held in self.past]
        return selected

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        check_rewind(self.row_lengths, lengths)
        # A row's used slots are in token order, so its first n used slots hold its first n tokens.
        lengths_B1 = torch.tensor(list(lengths))[:, None]
        used_BP = self.used_BP & (self.used_BP.cumsum(dim=1) <= lengths_B1)
        self.row_lengths = list(lengths)
        columns = used_BP.any(dim=0).nonzero()
        slots = int(columns[-1]) + 1 if len(columns) else 0
        if slots < used_BP.shape[1]:  # an unused tail would never be reused and would only grow
            self.past = [held[:, :, :slots].contiguous() for held in self.past]
        self.used_BP = used_BP[:, :slots].contiguous()

    def replace(self, rows: Sequence[int], source: PastCache) -> None:
        """Replace row `rows[i]` by row i of `source`."""
        index = list(rows)
        for row, length in zip(index, source.row_lengths, strict=True):
            self.row_lengths[row] = length
        self.used_BP[index] = False
        slots = max(self.row_lengths)
        if source.used_BP.shape[1] <= self.used_BP.shape[1] <= _SPARSE * slots:
            self._write(index, source)
            return
        # Compact the tokens of each row: otherwise the number of slots would grow with each token of each row.
        compacted = []
        for own, other in zip(self.past, source.past, strict=True):
            held = _front(own, self.used_BP, slots)
            held[index] = _front(other, source.used_BP, slots)
            compacted.append(held)
        self.past = compacted
        self.used_BP = _first(self.row_lengths, slots)

    def _write(self, rows: Sequence[int], source: PastCache) -> None:
        """Overwrite rows by those of a source that has at most as many slots."""
        slots = source.used_BP.shape[1]
        for own, other in zip(self.past, source.past, strict=True):
            own[rows, :, :slots] = other
        self.used_BP[rows, :slots] = source.used_BP


def in_window(used_BP: torch.Tensor, new_BN: torch.Tensor, position_BT: torch.Tensor, size: int) -> torch.Tensor:
    """Return (B, T, P + N): whether the token of a slot is one of the last `size` up to the token at a position.

    A row's used slots are in token order. `new_BN` are the positions in the N new slots.
    """
    slot_BS = torch.cat([used_BP.cumsum(dim=1) - 1, new_BN], dim=1)
    return slot_BS[:, None] > position_BT[:, :, None] - size


def _first(lengths: Sequence[int], slots: int) -> torch.Tensor:
    """Return (B, slots): true in the first `lengths[b]` of row b."""
    return torch.arange(slots) < torch.tensor(list(lengths))[:, None]


def _front(held_BHPD: torch.Tensor, used_BP: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (B, H, slots, D): the used slots of each row moved to the front, in their order."""
    rows, heads, _, width = held_BHPD.shape
    front = held_BHPD.new_zeros(rows, heads, slots, width)
    order_BP = torch.argsort((~used_BP).int(), dim=1, stable=True)[:, :slots]
    moved = held_BHPD.gather(2, order_BP[:, None, :, None].expand(-1, heads, -1, width))
    front[:, :, : moved.shape[2]] = moved
    return front
