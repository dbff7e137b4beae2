"""Base class of ONNX Runtime and TensorRT on a GPU: a graph with fixed slots over torch's memory.

From one decode step to the next only the tokens and their positions change; they are copied into fixed buffers. ONNX
Runtime binds a cache's buffers once; TensorRT binds them again when the number of visible slots or the cache changes.
Shapes: B rows, T new tokens per row, K requested positions, N slots, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Outputs, Runtime, Traits, check_outputs
from runtime_matrix.runtimes.engines.exported_graph import ExportedGraph
from runtime_matrix.runtimes.engines.positions import last_positions
from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.transfer import to_device


@dataclass(frozen=True)
class Layout:
    """Sizes and dtypes of the graph's caches and logits."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    vocabulary: int
    logits_dtype: torch.dtype
    device: str

    @classmethod
    def of(cls, graph: ExportedGraph, device: str) -> Layout:
        """Return the layout that the file of a graph states."""
        layers = len(graph.held_names) // 2
        return cls(layers, graph.heads, graph.width, graph.dtype, graph.vocabulary, graph.logits_dtype, device)


@dataclass
class Call:
    """Buffers for calls of one shape over one cache; `bound` is the engine's binding of them."""

    ids_BT: torch.Tensor
    positions_BT: torch.Tensor
    at_BK: torch.Tensor
    logits_BKV: torch.Tensor
    bound: Any = None

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The graph's inputs by name, without the cache inputs."""
        return {"ids": self.ids_BT, "positions": self.positions_BT, "at": self.at_BK}

    @property
    def is_step(self) -> bool:
        """Whether this is a decode step: one new token and one requested position per row."""
        return self.ids_BT.shape[1] == self.at_BK.shape[1] == 1


class StaticGraph(Runtime):
    """An engine over the form `Static` of `graph_forms`. `load` sets the attributes below."""

    _traits: Traits
    _layout: Layout

    @abstractmethod
    def _execute(self, call: Call, cache: SlotCache, extent: int) -> None:
        """Enqueue the call after the work already enqueued, without waiting. Attention covers slots below `extent`."""

    def _slots(self, capacity: int) -> int:
        """Return the number of slots of a row with room for `capacity` tokens."""
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
        contexts: Sequence[range] = (),
    ) -> Outputs:
        check_outputs(outputs, self._traits)
        tokens, device = ids_BT.shape[1], self._layout.device
        held = cache if cache is not None else self.new_cache(len(lengths), tokens)
        positions_BT = held.next_positions(tokens)
        outputs_per_row = 1 if at_BK is None else at_BK.shape[1]
        call = held.prepared.get((tokens, outputs_per_row))
        if call is None:
            if at_BK is None or (tokens == outputs_per_row == 1):
                at_BK = torch.zeros(len(lengths), 1, dtype=torch.long) if tokens == 1 else last_positions(lengths)
            call = self._new_call(to_device(ids_BT, device), positions_BT, to_device(at_BK, device))
            if call.is_step:
                held.prepared[tokens, outputs_per_row] = call
        else:
            call.ids_BT.copy_(to_device(ids_BT, device))
            call.positions_BT.copy_(positions_BT)
        self._execute(call, held, max(held.row_lengths) + tokens)
        held.advance(lengths)
        # Copied, because the next step overwrites the buffer.
        return Outputs(call.logits_BKV.to(torch.float32, copy=call.is_step))

    def _new_call(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, at_BK: torch.Tensor) -> Call:
        layout = self._layout
        size = (*at_BK.shape, layout.vocabulary)
        logits_BKV = torch.empty(size, dtype=layout.logits_dtype, device=layout.device)
        # Copies, because the caller may change its tensors before the device reads them.
        ids_BT, positions_BT, at_BK = (value.clone().contiguous() for value in (ids_BT, positions_BT, at_BK))
        return Call(ids_BT, positions_BT, at_BK, logits_BKV)

    @override
    def synchronize(self) -> None:
        if self._layout.device == "cuda":
            torch.cuda.synchronize()


class OwnStream:
    """A CUDA stream ordered with torch's current one: a `with` block runs in sequence, without blocking the host."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    @property
    def handle(self) -> int:
        """The `cudaStream_t` of the stream as an integer."""
        return int(self._stream.cuda_stream)

    def __enter__(self) -> int:
        self._stream.wait_stream(torch.cuda.current_stream())
        return self.handle

    def __exit__(self, *raised: object) -> None:
        torch.cuda.current_stream().wait_stream(self._stream)

    def synchronize(self) -> None:
        """Return when the stream's work is done."""
        self._stream.synchronize()
