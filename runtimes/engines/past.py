"""The key-value cache of the engines whose graph takes the past and gives past + new, ONNX Runtime and TensorRT.

Each layer's keys and values have two buffers that swap roles: a step reads one and writes the other, and allocates
nothing. All rows share the slots; `used_BP` says which of them a row really holds.
Shapes: B rows, L keys and values of all layers, H heads, P slots held, T new tokens, S = P + T, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtimes.engines.slots import check_rewind


@dataclass(frozen=True)
class PastShape:
    """What a cache is made of, whatever its rows."""

    tensors: int  # L
    heads: int
    width: int
    dtype: torch.dtype
    device: str


class PastCache:
    """`past` is read by a step, `present` written by it; `advance` then makes the present the past."""

    def __init__(self, shape: PastShape, rows: int, capacity: int):
        self._shape, self._capacity = shape, capacity
        self.row_lengths = [0] * rows
        self.used_BP = torch.zeros(rows, 0, dtype=torch.bool, device=shape.device)
        self._read: list[torch.Tensor] = []
        self._write: list[torch.Tensor] = []

    @property
    def lengths(self) -> list[int]:
        return list(self.row_lengths)

    @property
    def past(self) -> list[torch.Tensor]:
        """Return L tensors (B, H, P, D)."""
        if not self._read:
            self._read = self._allocate()
        return self._views(self._read, self.used_BP.shape[1])

    def present(self, tokens: int) -> list[torch.Tensor]:
        """Return L tensors (B, H, P + T, D) to be written; they do not overlap the past."""
        return self._room(self.used_BP.shape[1] + tokens)

    def mask(self, tokens: int) -> torch.Tensor:
        """Return (B, 1, T, S). Padding sees itself, since a row of the softmax without any slot would be NaN."""
        rows, device = len(self.row_lengths), self._shape.device
        if tokens == 1:
            own = torch.ones(rows, 1, dtype=torch.bool, device=device)
            return torch.cat([self.used_BP, own], dim=1)[:, None, None, :]
        past = self.used_BP[:, None, :].expand(-1, tokens, -1)
        new = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril().expand(rows, -1, -1)
        return torch.cat([past, new], dim=2)[:, None]

    def advance(self, lengths: Sequence[int], tokens: int) -> None:
        """Make what was written the past: of row b, the first `lengths[b]` of the new tokens count."""
        self._read, self._write = self._write, self._read
        self.used_BP = torch.cat([self.used_BP, _first(lengths, tokens, self._shape.device)], dim=1)
        self.row_lengths = [old + new for old, new in zip(self.row_lengths, lengths, strict=True)]

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> PastCache:
        chosen = PastCache(self._shape, len(rows), self._capacity)
        chosen.row_lengths = [self.row_lengths[row] for row in rows]
        used_BP = self.used_BP[list(rows)]
        kept = used_BP.any(dim=0).nonzero()[:, 0]  # slots that none of the rows uses are left behind
        chosen.used_BP = used_BP[:, kept].contiguous()
        chosen._read = chosen._allocate()
        index = torch.tensor(list(rows), device=self._shape.device)
        for mine, theirs in zip(chosen.past, self.past, strict=True):
            mine.copy_(theirs.index_select(0, index).index_select(2, kept))
        return chosen

    @torch.inference_mode()
    def rewind(self, lengths: Sequence[int]) -> None:
        check_rewind(self.row_lengths, lengths)
        # A row's used slots are in the order of its tokens, so its first n are its first n tokens.
        wanted = torch.tensor(list(lengths), device=self._shape.device)[:, None]
        used_BP = self.used_BP & (self.used_BP.cumsum(dim=1) <= wanted)
        self.row_lengths = list(lengths)
        columns = used_BP.any(dim=0).nonzero()
        slots = int(columns[-1]) + 1 if len(columns) else 0  # a tail that no row uses would only grow
        if slots < self.used_BP.shape[1]:
            self._rewrite([held[:, :, :slots] for held in self.past], used_BP[:, :slots].contiguous())
        else:
            self.used_BP = used_BP

    @torch.inference_mode()
    def replace(self, rows: Sequence[int], source: PastCache) -> None:
        index = list(rows)
        for row, length in zip(index, source.row_lengths, strict=True):
            self.row_lengths[row] = length
        self.used_BP[index] = False
        slots = max(self.row_lengths)
        # Each row's tokens move to the front: otherwise the slots would grow with every token of every row.
        moved = []
        for mine, theirs in zip(self.past, source.past, strict=True):
            held = _front(mine, self.used_BP, slots)
            held[index] = _front(theirs, source.used_BP, slots)
            moved.append(held)
        self._rewrite(moved, _first(self.row_lengths, slots, self._shape.device))

    def _rewrite(self, held: Sequence[torch.Tensor], used_BP: torch.Tensor) -> None:
        """Make the given tensors, views of the past or new ones, the past."""
        for target, source in zip(self._room(used_BP.shape[1]), held, strict=True):
            target.copy_(source)
        self._read, self._write = self._write, self._read
        self.used_BP = used_BP

    def _room(self, slots: int) -> list[torch.Tensor]:
        if not self._write or self._write[0].numel() < math.prod(self._sizes(slots)):
            self._capacity = max(self._capacity, slots)
            self._write = self._allocate()
        return self._views(self._write, slots)

    def _sizes(self, slots: int) -> tuple[int, int, int, int]:
        return len(self.row_lengths), self._shape.heads, slots, self._shape.width

    def _allocate(self) -> list[torch.Tensor]:
        size, shape = math.prod(self._sizes(max(1, self._capacity))), self._shape
        return [torch.empty(size, dtype=shape.dtype, device=shape.device) for _ in range(shape.tensors)]

    def _views(self, buffers: Sequence[torch.Tensor], slots: int) -> list[torch.Tensor]:
        sizes = self._sizes(slots)
        return [buffer[: math.prod(sizes)].view(sizes) for buffer in buffers]


def _first(lengths: Sequence[int], slots: int, device: str) -> torch.Tensor:
    """Return (B, slots): true in the first `lengths[b]` of row b."""
    return torch.arange(slots, device=device) < torch.tensor(list(lengths), device=device)[:, None]


def _front(held_BHPD: torch.Tensor, used_BP: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (B, H, slots, D): the used slots of each row at the front, in their order."""
    rows, heads, _, width = held_BHPD.shape
    front = held_BHPD.new_zeros(rows, heads, slots, width)
    order_BP = torch.argsort((~used_BP).int(), dim=1, stable=True)[:, :slots]
    moved = held_BHPD.gather(2, order_BP[:, None, :, None].expand(-1, heads, -1, width))
    front[:, :, : moved.shape[2]] = moved
    return front
