"""Replays a decode step as one CUDA graph: kernel launches dominate the step of a small model, and a graph needs one.

Needs a GPU, and has not run on one yet: only the code around the capture is tested, on a CPU.
Shapes: B rows, T new tokens per row, K requested positions, V vocabulary, H key-value heads, N slots, D head width.
"""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from typing_extensions import override

from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.transfer import to_device

_TRIES, _TRY_S = 3, 0.1  # rounds in which each variant is timed; minimum seconds per timing
_WARMUPS = 3  # as torch's documentation recommends: libraries allocate in their first calls, which a capture forbids


class Step(Protocol):
    """Runs new tokens over a static cache: `keys` and `values` hold one (B, H, N, D) per layer, written in place."""

    def __call__(
        self,
        ids_BT: torch.Tensor,
        slots_BT: torch.Tensor,
        at_BK: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        /,
    ) -> torch.Tensor:
        """Return the logits (B, K, V)."""
        ...


class CapturedStep:
    """Captures `step` as a CUDA graph for each combination of input shapes and cache buffers, and replays it.

    A graph contains addresses: those of its own input tensors, and those of the cache's buffers. It is therefore
    deleted together with the buffers, since another cache may reuse their addresses. Each call overwrites the output
    of the call before.
    """

    def __init__(self, step: Step):
        self._step = step
        # Key: `id` of a cache's first buffer. All buffers of a cache have the same lifetime.
        self._graphs: dict[int, dict[tuple[Any, ...], tuple[Any, list[torch.Tensor], torch.Tensor]]] = {}
        self._memory: Any = None  # shared by all graphs, since only one is replayed at a time

    def __call__(
        self,
        ids_BT: torch.Tensor,
        slots_BT: torch.Tensor,
        at_BK: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
    ) -> torch.Tensor:
        """Return the logits (B, K, V), replayed from the graph for these shapes and buffers."""
        inputs, buffer_id = (ids_BT, slots_BT, at_BK), id(keys[0])
        if buffer_id not in self._graphs:
            self._graphs[buffer_id] = {}
            weakref.finalize(keys[0], self._graphs.pop, buffer_id).atexit = False
        graphs, shapes = self._graphs[buffer_id], tuple(tuple(value.shape) for value in inputs)
        if shapes not in graphs:
            graphs[shapes] = self._capture(inputs, keys, values)
        graph, graph_inputs, output = graphs[shapes]
        for graph_input, value in zip(graph_inputs, inputs, strict=True):
            graph_input.copy_(value)
        graph.replay()
        return output

    def _capture(
        self, inputs: Sequence[torch.Tensor], keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> tuple[Any, list[torch.Tensor], torch.Tensor]:
        ids_BT, slots_BT, at_BK = graph_inputs = [value.clone() for value in inputs]
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARMUPS):  # repeating is safe: each call writes the same tokens into the same slots
                self._step(ids_BT, slots_BT, at_BK, keys, values)
        torch.cuda.current_stream().wait_stream(side_stream)
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may query the device's free memory during the capture.
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            output = self._step(ids_BT, slots_BT, at_BK, keys, values)
        return graph, graph_inputs, output


def fastest(
    ways: Mapping[str, Callable[[], Any]], clock: Callable[[], float] | None = None
) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest of several equivalent functions, and the median seconds per call of each.

    The default clock is that of torch.utils.benchmark, which synchronizes with the GPU.
    """
    from torch.utils.benchmark import Timer  # it includes a warm-up
    from torch.utils.benchmark import timer as synchronizing_clock

    clock = clock or synchronizing_clock
    timers = {name: Timer("call()", globals={"call": call}, timer=clock) for name, call in ways.items()}
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TRIES):
        for name, timer in timers.items():
            medians[name].append(timer.blocked_autorange(min_run_time=_TRY_S).median)
    seconds = {name: statistics.median(values) for name, values in medians.items()}
    return min(seconds, key=lambda name: seconds[name]), seconds


@dataclass(frozen=True)
class _Buffers:
    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        return self.keys[0].shape[0], self.keys[0].shape[2]  # rows, slots

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))


class CachePool:
    """Provides caches whose buffers are reused, so that CUDA graphs captured over them can be replayed.

    Stale slots keep finite values. Unused buffers occupy at most as many bytes as were ever in use
    at once.
    """

    def __init__(self, make: Callable[[int, int], SlotCache]):
        self._make = make
        self._free: list[_Buffers] = []  # least recently used first
        self._used_bytes = self._most_bytes = 0

    def take(self, rows: int, slots: int) -> PooledCache:
        """Return an empty cache; its buffers return to the pool when the cache is garbage collected."""
        index = next((i for i, free in enumerate(self._free) if free.shape == (rows, slots)), None)
        buffers = self._new_buffers(rows, slots) if index is None else self._free.pop(index)
        self._used_bytes += buffers.nbytes
        self._most_bytes = max(self._most_bytes, self._used_bytes)
        cache = PooledCache(self, buffers.keys, buffers.values, [0] * rows)
        weakref.finalize(cache, self._release, buffers).atexit = False
        return cache

    def _new_buffers(self, rows: int, slots: int) -> _Buffers:
        cache = self._make(rows, slots)
        for buffer in (*cache.keys, *cache.values):
            torch._dynamo.mark_static_address(buffer)  # otherwise torch's CUDA graphs refuse to write into it
        return _Buffers(cache.keys, cache.values)

    def _release(self, buffers: _Buffers) -> None:
        self._used_bytes -= buffers.nbytes
        self._free.append(buffers)
        while sum(free.nbytes for free in self._free) > self._most_bytes:
            del self._free[0]


class PooledCache(SlotCache):
    """A cache of a pool: `select` copies rows into buffers of the same pool."""

    def __init__(self, pool: CachePool, keys: list[torch.Tensor], values: list[torch.Tensor], lengths: list[int]):
        super().__init__(keys, values, lengths)
        self._pool = pool

    @override
    def select(self, rows: Sequence[int]) -> PooledCache:
        selected = self._pool.take(len(rows), self.slots)
        index = to_device(torch.tensor(list(rows)), self.keys[0].device)
        for target, source in zip([*selected.keys, *selected.values], [*self.keys, *self.values], strict=True):
            torch.index_select(source, 0, index, out=target)
        selected.row_lengths = [self.row_lengths[row] for row in rows]
        return selected
