"""The key-value cache of an engine whose graph takes the past and gives past + new: ONNX Runtime on a CPU.

All rows share the slots; `used_BP` says which of them a row really holds.
Shapes: B rows, L keys and values of all layers, H heads, P slots held, T new tokens, S = P + T, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.engines.rewind import check_rewind

_SPARSE = 1.25  # slots to the longest row's tokens, above which moving all rows' tokens to the front pays


@dataclass(frozen=True)
class PastShape:
    """What a cache is made of, whatever its rows."""

    tensors: int  # L
    heads: int
    width: int
    dtype: torch.dtype


class PastCache:
    """`past` is read by a step; `advance` makes what the step gave the past."""

    def __init__(self, shape: PastShape, rows: int):
        self._shape = shape
        self.row_lengths = [0] * rows
        self.used_BP = torch.zeros(rows, 0, dtype=torch.bool)
        self.past = [torch.zeros(rows, shape.heads, 0, shape.width, dtype=shape.dtype)] * shape.tensors
        self._seen_BS: torch.Tensor | None = None  # by the last step of one token a row

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self.row_lengths)

    def mask(self, tokens: int) -> torch.Tensor:
        """Return (B, 1, T, S). Padding sees itself, since a row of the softmax without any slot would be NaN."""
        rows = len(self.row_lengths)
        if tokens == 1:
            own = torch.ones(rows, 1, dtype=torch.bool)
            self._seen_BS = torch.cat([self.used_BP, own], dim=1)
            return self._seen_BS[:, None, None, :]
        past = self.used_BP[:, None, :].expand(-1, tokens, -1)
        new = torch.ones(tokens, tokens, dtype=torch.bool).tril().expand(rows, -1, -1)
        return torch.cat([past, new], dim=2)[:, None]

    def advance(self, lengths: Sequence[int], tokens: int, present: Sequence[torch.Tensor]) -> None:
        """Make `present` the past: of row b, the first `lengths[b]` of the new tokens count."""
        self.past = list(present)
        if tokens == 1 and self._seen_BS is not None and all(lengths):
            self.used_BP = self._seen_BS
        else:
            self.used_BP = torch.cat([self.used_BP, _first(lengths, tokens)], dim=1)
        self.row_lengths = [old + new for old, new in zip(self.row_lengths, lengths, strict=True)]

    def first_row(self) -> PastCache:
        """Return a cache of row 0 that reads the same memory: valid for as long as this one does not change."""
        row = PastCache(self._shape, 1)
        row.row_lengths, row.used_BP = self.row_lengths[:1], self.used_BP[:1]
        row.past = [held[:1] for held in self.past]
        return row

    def select(self, rows: Sequence[int]) -> PastCache:
        """Return a copy of the given rows, in that order."""
        chosen = PastCache(self._shape, len(rows))
        chosen.row_lengths = [self.row_lengths[row] for row in rows]
        used_BP = self.used_BP[list(rows)]
        kept = used_BP.any(dim=0).nonzero()[:, 0]  # slots that none of the rows uses are left behind
        chosen.used_BP = used_BP[:, kept].contiguous()
        index = torch.tensor(list(rows))
        chosen.past = [held.index_select(0, index).index_select(2, kept) for held in self.past]
        return chosen

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        check_rewind(self.row_lengths, lengths)
        # A row's used slots are in the order of its tokens, so its first n are its first n tokens.
        wanted = torch.tensor(list(lengths))[:, None]
        used_BP = self.used_BP & (self.used_BP.cumsum(dim=1) <= wanted)
        self.row_lengths = list(lengths)
        columns = used_BP.any(dim=0).nonzero()
        slots = int(columns[-1]) + 1 if len(columns) else 0
        if slots < used_BP.shape[1]:  # a tail that no row uses would only grow
            self.past = [held[:, :, :slots].contiguous() for held in self.past]
        self.used_BP = used_BP[:, :slots].contiguous()

    def replace(self, rows: Sequence[int], source: PastCache) -> None:
        """Put row i of `source` in the place of row `rows[i]`."""
        index = list(rows)
        for row, length in zip(index, source.row_lengths, strict=True):
            self.row_lengths[row] = length
        self.used_BP[index] = False
        slots = max(self.row_lengths)
        if source.used_BP.shape[1] <= self.used_BP.shape[1] <= _SPARSE * slots:
            self._write(index, source)
            return
        # Each row's tokens move to the front: otherwise the slots would grow with every token of every row.
        moved = []
        for mine, theirs in zip(self.past, source.past, strict=True):
            held = _front(mine, self.used_BP, slots)
            held[index] = _front(theirs, source.used_BP, slots)
            moved.append(held)
        self.past = moved
        self.used_BP = _first(self.row_lengths, slots)

    def _write(self, rows: Sequence[int], source: PastCache) -> None:
        """Put rows over others that hold as many slots or more."""
        slots = source.used_BP.shape[1]
        for mine, theirs in zip(self.past, source.past, strict=True):
            mine[rows, :, :slots] = theirs
        self.used_BP[rows, :slots] = source.used_BP


def _first(lengths: Sequence[int], slots: int) -> torch.Tensor:
    """Return (B, slots): true in the first `lengths[b]` of row b."""
    return torch.arange(slots) < torch.tensor(list(lengths))[:, None]


def _front(held_BHPD: torch.Tensor, used_BP: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (B, H, slots, D): the used slots of each row at the front, in their order."""
    rows, heads, _, width = held_BHPD.shape
    front = held_BHPD.new_zeros(rows, heads, slots, width)
    order_BP = torch.argsort((~used_BP).int(), dim=1, stable=True)[:, :slots]
    moved = held_BHPD.gather(2, order_BP[:, None, :, None].expand(-1, heads, -1, width))
    front[:, :, : moved.shape[2]] = moved
    return front
