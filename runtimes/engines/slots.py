"""The KV cache of engines with fixed slots: one preallocated slot per row and position, so slot = position.

Rows of different lengths, rewinding and refilling only change lengths: slots beyond a row's length are not attended to.
Shapes: B rows, H key-value heads, N slots, T new tokens per row, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from typing_extensions import override

from runtime_matrix.runtimes.engines.rewind import check_rewind
from runtime_matrix.runtimes.transfer import to_device


@dataclass(frozen=True, eq=False)
class Span:
    """The slots to which the new tokens of a forward are written. Slot = position."""

    positions_BT: torch.Tensor  # on the device
    start: int | None  # first slot, if it is the same in all rows; None: rows differ
    extent: int  # number of visible slots: the longest row's length after the forward, padding included

    @classmethod
    def behind(cls, cache: SlotCache | None, rows: int, tokens: int, device: str) -> Span:
        """Return the slots of T = `tokens` new tokens after each row's cached ones; without a cache, from slot 0.

        ValueError if a row of the cache has too few slots.
        """
        if cache is None:
            return cls(torch.arange(tokens, device=device).repeat(rows, 1), 0, tokens)
        past = cache.row_lengths
        start = past[0] if len(set(past)) == 1 else None
        return cls(cache.next_positions(tokens), start, max(past) + tokens)

    @property
    def needs_mask(self) -> bool:
        """Whether a mask is needed. Without one the model uses its fastest kernel.

        No mask is needed for one new token that sees all slots, or for causal attention without a past.
        """
        return self.start is None or (self.positions_BT.shape[1] > 1 and self.start > 0)


class SlotCache(Cache):
    """Implements `runtimes.base.Cache` for the rows, and transformers' `Cache` for the model's layers.

    `keys` and `values` hold one (B, H, N, D) tensor per layer, initially 0: masked slots must hold finite numbers too.
    """

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor], lengths: list[int]):
        super().__init__(layers=[])
        self.keys, self.values = keys, values
        self.row_lengths = lengths
        self.prepared: dict[Any, Any] = {}  # an engine's objects for these buffers, with the same lifetime
        self._span = _NOWHERE

    @classmethod
    def empty(
        cls,
        config: Any,
        rows: int,
        slots: int,
        dtype: torch.dtype,
        device: str,
        devices: Sequence[str] = (),
        heads: int | None = None,
    ) -> SlotCache:
        """Return an empty cache for a model with the transformers configuration `config`.

        `devices` are those of the layers, the first of them `device`; empty: all are on `device`. `heads` None: all.
        """
        text = config.get_text_config()
        heads = heads or getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        layers = devices or [device] * text.num_hidden_layers
        return cls.on_devices(layers, (rows, heads, slots, width), dtype)

    @classmethod
    def zeros(cls, layers: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str) -> SlotCache:
        """Return an empty cache with buffers of `shape` (B, H, N, D)."""
        return cls.on_devices([device] * layers, shape, dtype)

    @classmethod
    def on_devices(cls, devices: Sequence[str], shape: tuple[int, int, int, int], dtype: torch.dtype) -> SlotCache:
        """Return an empty cache with buffers of `shape` (B, H, N, D), one layer on each of `devices`."""
        keys, values = ([torch.zeros(shape, dtype=dtype, device=device) for device in devices] for _ in range(2))
        return cls(keys, values, [0] * shape[0])

    @property
    def slot_bytes(self) -> int:
        """The size of one slot of one row, over all layers."""
        return sum(held[0, :, 0].nbytes for held in (*self.keys, *self.values))

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self._row_lengths)

    @property
    def row_lengths(self) -> Sequence[int]:
        """Tokens held by each row, as an immutable sequence; assign to change it."""
        return self._row_lengths

    @row_lengths.setter
    def row_lengths(self, lengths: Sequence[int]) -> None:
        self._row_lengths = tuple(lengths)
        self._held_B1: torch.Tensor | None = None

    def advance(self, lengths: Sequence[int]) -> None:
        """Add the new tokens to each row's length. If all rows grow equally, the device computes its own copy."""
        held_B1 = self._held_B1
        self.row_lengths = [old + new for old, new in zip(self._row_lengths, lengths, strict=True)]
        if held_B1 is not None and len(set(lengths)) == 1:
            self._held_B1 = held_B1 + lengths[0]

    def next_positions(self, tokens: int) -> torch.Tensor:
        """Return (B, T): the slots of each row's next tokens, on the device. ValueError if a row has too few slots."""
        extent = max(self._row_lengths) + tokens
        if extent > self.slots and self.slots:
            raise ValueError(f"the cache has {self.slots} slots per row; {extent} are needed")
        device = self.keys[0].device
        if self._held_B1 is None:
            self._held_B1 = to_device(torch.tensor(self._row_lengths)[:, None], device)
        return self._held_B1 if tokens == 1 else self._held_B1 + torch.arange(tokens, device=device)

    @property
    def slots(self) -> int:
        """Number of slots per row (N)."""
        return self.keys[0].shape[2]

    def select(self, rows: Sequence[int]) -> SlotCache:
        """Return a copy of the given rows, in that order."""
        index = to_device(torch.tensor(list(rows)), self.keys[0].device)
        keys = [key.index_select(0, index.to(key.device)) for key in self.keys]
        values = [value.index_select(0, index.to(value.device)) for value in self.values]
        return SlotCache(keys, values, [self.row_lengths[row] for row in rows])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        check_rewind(self.row_lengths, lengths)
        if tuple(lengths) != self._row_lengths:
            self.row_lengths = lengths

    def replace(self, rows: Sequence[int], source: SlotCache) -> None:
        """Replace row `rows[i]` by row i of `source`."""
        index, used = to_device(torch.tensor(list(rows)), self.keys[0].device), max(source.row_lengths)
        for own, other in zip([*self.keys, *self.values], [*source.keys, *source.values], strict=True):
            own[index.to(own.device), :, :used] = other[:, :, :used]
        lengths = self.lengths
        for row, length in zip(rows, source.row_lengths, strict=True):
            lengths[row] = length
        self.row_lengths = lengths

    def begin(self, span: Span) -> None:
        """Set the slots of the next forward; the model then calls `update` once per layer."""
        self._span = span

    # Methods of transformers' `Cache`

    @override
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self._write(self.keys[layer_idx], key_states),
            self._write(self.values[layer_idx], value_states),
        )

    def _write(self, buffer_BHND: torch.Tensor, new_BHTD: torch.Tensor) -> torch.Tensor:
        start = self._span.start
        if start is not None:
            buffer_BHND[:, :, start : start + new_BHTD.shape[2]] = new_BHTD
        else:
            positions_BT = self._span.positions_BT.to(buffer_BHND.device)
            index_BHTD = positions_BT[:, None, :, None].expand(new_BHTD.shape)
            buffer_BHND.scatter_(2, index_BHTD, new_BHTD)
        return buffer_BHND[:, :, : self._span.extent]

    @override
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._span.start or 0

    @override
    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        return self._span.extent, 0


_NOWHERE = Span(torch.empty(0, 0, dtype=torch.long), None, 0)


class NoCache(Cache):
    """A cache that stores nothing: without a cache, some models read from the device whether rows are packed."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    @override
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states

    @override
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    @override
    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        return int(query_length), 0


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `size`."""
    return -(-size // step) * step
