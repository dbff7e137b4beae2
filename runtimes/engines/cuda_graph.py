"""Replays a step as one CUDA graph: a small model's step is bound by its launches, a graph has one.

Needs a GPU, and has not run on one yet: what surrounds the capture is tested on a CPU.
Shapes: B rows, T new tokens, K wanted positions, V vocabulary, H key-value heads, N slots, D head width.
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

_TRIES, _TRY_S = 3, 0.1  # each takes its turn so often, for at least so many seconds
_WARMUPS = 3  # as torch's documentation asks: libraries allocate in their first calls, which a capture forbids


class Step(Protocol):
    """Runs new tokens over a static cache: `keys` and `values` are one (B, H, N, D) a layer, written in place."""

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
    """A step that replays what was captured of another one, for the shapes of its inputs and these buffers.

    A graph holds addresses: of inputs of its own, and of the cache's buffers. It is therefore kept for as long as the
    buffers live, and no longer: an address alone may belong to another cache by then. The next call overwrites the
    output.
    """

    def __init__(self, step: Step):
        self._step = step
        # By identity of a cache's first buffer; its other buffers live and die with it.
        self._graphs: dict[int, dict[tuple[Any, ...], tuple[Any, list[torch.Tensor], torch.Tensor]]] = {}
        self._memory: Any = None  # that all graphs share: none is replayed while another one runs

    def __call__(
        self,
        ids_BT: torch.Tensor,
        slots_BT: torch.Tensor,
        at_BK: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
    ) -> torch.Tensor:
        """Return the logits of a step, replayed from the graph of these shapes and buffers."""
        inputs, place = (ids_BT, slots_BT, at_BK), id(keys[0])
        if place not in self._graphs:
            self._graphs[place] = {}
            weakref.finalize(keys[0], self._graphs.pop, place).atexit = False
        graphs, shapes = self._graphs[place], tuple(tuple(value.shape) for value in inputs)
        if shapes not in graphs:
            graphs[shapes] = self._capture(inputs, keys, values)
        graph, own, output = graphs[shapes]
        for mine, value in zip(own, inputs, strict=True):
            mine.copy_(value)
        graph.replay()
        return output

    def _capture(
        self, inputs: Sequence[torch.Tensor], keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> tuple[Any, list[torch.Tensor], torch.Tensor]:
        ids_BT, slots_BT, at_BK = own = [value.clone() for value in inputs]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARMUPS):  # each writes the same tokens into the same slots
                self._step(ids_BT, slots_BT, at_BK, keys, values)
        torch.cuda.current_stream().wait_stream(beside)
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: another one may ask for the device's free memory meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            output = self._step(ids_BT, slots_BT, at_BK, keys, values)
        return graph, own, output


def fastest(
    ways: Mapping[str, Callable[[], Any]], clock: Callable[[], float] | None = None
) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest of some ways to do one thing, and the median seconds of a call of each.

    The default clock is that of torch.utils.benchmark, which waits for the GPU.
    """
    from torch.utils.benchmark import Timer  # it warms up
    from torch.utils.benchmark import timer as waiting_clock

    clock = clock or waiting_clock
    timers = {name: Timer("call()", globals={"call": call}, timer=clock) for name, call in ways.items()}
    tried: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TRIES):
        for name, timer in timers.items():
            tried[name].append(timer.blocked_autorange(min_run_time=_TRY_S).median)
    seconds = {name: statistics.median(found) for name, found in tried.items()}
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
    """Hands out caches over buffers that live on, so that graphs over them can be replayed; stale slots are finite.

    It keeps unused buffers for as many bytes as were ever in use at once, and no more.
    """

    def __init__(self, make: Callable[[int, int], SlotCache]):
        self._make = make
        self._free: list[_Buffers] = []  # in the order of their last use
        self._used_bytes = self._most_bytes = 0

    def take(self, rows: int, slots: int) -> PooledCache:
        """Return an empty cache; when nobody holds it any more, its buffers are free again."""
        index = next((at for at, free in enumerate(self._free) if free.shape == (rows, slots)), None)
        buffers = self._made(rows, slots) if index is None else self._free.pop(index)
        self._used_bytes += buffers.nbytes
        self._most_bytes = max(self._most_bytes, self._used_bytes)
        cache = PooledCache(self, buffers.keys, buffers.values, [0] * rows)
        weakref.finalize(cache, self._release, buffers).atexit = False
        return cache

    def _made(self, rows: int, slots: int) -> _Buffers:
        made = self._make(rows, slots)
        for buffer in (*made.keys, *made.values):
            torch._dynamo.mark_static_address(buffer)  # else torch's own graphs refuse to write into them
        return _Buffers(made.keys, made.values)

    def _release(self, buffers: _Buffers) -> None:
        self._used_bytes -= buffers.nbytes
        self._free.append(buffers)
        while sum(free.nbytes for free in self._free) > self._most_bytes:
            del self._free[0]


class PooledCache(SlotCache):
    """A cache whose rows, where some are selected, move to buffers of the same pool."""

    def __init__(self, pool: CachePool, keys: list[torch.Tensor], values: list[torch.Tensor], lengths: list[int]):
        super().__init__(keys, values, lengths)
        self._pool = pool

    @override
    def select(self, rows: Sequence[int]) -> PooledCache:
        chosen = self._pool.take(len(rows), self.slots)
        index = to_device(torch.tensor(list(rows)), self.keys[0].device)
        for mine, theirs in zip([*chosen.keys, *chosen.values], [*self.keys, *self.values], strict=True):
            torch.index_select(theirs, 0, index, out=mine)
        chosen.row_lengths = [self.row_lengths[row] for row in rows]
        return chosen
