"""What ONNX Runtime and TensorRT share on a GPU: a graph with fixed slots, whose inputs and outputs are torch's.

At a step nothing changes but the tokens and their positions, which are written into buffers that stay. ONNX Runtime
binds a cache's buffers once; TensorRT again when the seen slots or the cache change.
Shapes: B rows, T new tokens, K wanted positions, N slots, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Outputs, Runtime, Traits, check_outputs
from runtime_matrix.runtimes.engines.positions import last_positions
from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.transfer import to_device


@dataclass(frozen=True)
class Layout:
    """What the graph's caches and logits are made of."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    vocabulary: int
    logits_dtype: torch.dtype
    device: str


@dataclass
class Call:
    """Buffers of one shape of call over one cache, and what the engine has bound them to."""

    ids_BT: torch.Tensor
    positions_BT: torch.Tensor
    at_BK: torch.Tensor
    logits_BKV: torch.Tensor
    bound: Any = None

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The graph's inputs but for the held ones, by name."""
        return {"ids": self.ids_BT, "positions": self.positions_BT, "at": self.at_BK}

    @property
    def is_step(self) -> bool:
        """One new token a row, of which the outputs are wanted."""
        return self.ids_BT.shape[1] == self.at_BK.shape[1] == 1


class StaticGraph(Runtime):
    """An engine over the form `Static` of `graph_forms`. `load` sets what is declared here."""

    _traits: Traits
    _layout: Layout

    @abstractmethod
    def _execute(self, call: Call, cache: SlotCache, extent: int) -> None:
        """Enqueue the call behind what the device was given, and do not wait. Slots below `extent` are looked at."""

    def _slots(self, capacity: int) -> int:
        """Return how many slots a row gets that shall hold so many tokens."""
        return capacity

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        layout = self._layout
        shape = (rows, layout.heads, self._slots(capacity), layout.width)
        return SlotCache.zeros(layout.layers, shape, layout.dtype, layout.device)

    @torch.inference_mode()
    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: SlotCache | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
    ) -> Outputs:
        check_outputs(outputs, self._traits)
        tokens, device = ids_BT.shape[1], self._layout.device
        held = cache if cache is not None else self.new_cache(len(lengths), tokens)
        positions_BT = held.next_positions(tokens)
        wanted = 1 if at_BK is None else at_BK.shape[1]
        call = held.prepared.get((tokens, wanted))
        if call is None:
            if at_BK is None or (tokens == wanted == 1):
                at_BK = torch.zeros(len(lengths), 1, dtype=torch.long) if tokens == 1 else last_positions(lengths)
            call = self._new_call(to_device(ids_BT, device), positions_BT, to_device(at_BK, device))
            if call.is_step:
                held.prepared[tokens, wanted] = call
        else:
            call.ids_BT.copy_(to_device(ids_BT, device))
            call.positions_BT.copy_(positions_BT)
        self._execute(call, held, max(held.row_lengths) + tokens)
        held.advance(lengths)
        return Outputs(call.logits_BKV.to(torch.float32, copy=call.is_step))  # the next step overwrites its own

    def _new_call(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, at_BK: torch.Tensor) -> Call:
        layout = self._layout
        size = (*at_BK.shape, layout.vocabulary)
        logits_BKV = torch.empty(size, dtype=layout.logits_dtype, device=layout.device)
        # Copies: what the caller gave may change before the device reads it.
        ids_BT, positions_BT, at_BK = (value.clone().contiguous() for value in (ids_BT, positions_BT, at_BK))
        return Call(ids_BT, positions_BT, at_BK, logits_BKV)

    @override
    def synchronize(self) -> None:
        if self._layout.device == "cuda":
            torch.cuda.synchronize()


class OwnStream:
    """A stream beside torch's current one: work on it takes its turn among the current one's, without a wait."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    @property
    def handle(self) -> int:
        """CUDA's handle of the stream."""
        return int(self._stream.cuda_stream)

    def __enter__(self) -> int:
        self._stream.wait_stream(torch.cuda.current_stream())
        return self.handle

    def __exit__(self, *raised: object) -> None:
        torch.cuda.current_stream().wait_stream(self._stream)

    def synchronize(self) -> None:
        """Return when the stream's work is done."""
        self._stream.synchronize()
