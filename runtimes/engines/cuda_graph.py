"""Replays a step as one CUDA graph: a small model's step is bound by its launches, a graph has one.

Needs a GPU, and has not run on one yet: what surrounds the capture is tested on a CPU.
"""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from runtime_matrix.runtimes.engines.slots import SlotCache

_TRIES, _TRY_S = 3, 0.1  # each takes its turn so often, for at least so many seconds
_WARMUPS = 3  # as torch's documentation asks: libraries allocate in their first calls, which a capture forbids


class CapturedStep:
    """Calls `step(*inputs, keys, values)` by replaying what was captured for these shapes and these buffers."""

    def __init__(self, step: Callable[..., torch.Tensor]):
        self._step = step
        self._captured: dict[tuple[Any, ...], tuple[Any, list[torch.Tensor], torch.Tensor]] = {}

    def __call__(self, *given: Any) -> torch.Tensor:
        *inputs, keys, values = given
        # The graph holds addresses: of these buffers, which a pool keeps, and of inputs of its own.
        key = (keys[0].data_ptr(), *(tuple(value.shape) for value in inputs))
        if key not in self._captured:
            self._captured[key] = self._capture(inputs, keys, values)
        graph, own, output = self._captured[key]
        for mine, value in zip(own, inputs, strict=True):
            mine.copy_(value)
        graph.replay()
        return output

    def _capture(
        self, inputs: Sequence[torch.Tensor], keys: Any, values: Any
    ) -> tuple[Any, list[torch.Tensor], torch.Tensor]:
        own = [value.clone() for value in inputs]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARMUPS):  # each writes the same tokens into the same slots
                self._step(*own, keys, values)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self._step(*own, keys, values)
        return graph, own, output


def fastest(ways: Mapping[str, Callable[[], Any]]) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest of some ways to do one thing, and the median seconds of a call of each."""
    from torch.utils.benchmark import Timer  # it warms up and waits for the GPU

    timers = {name: Timer("call()", globals={"call": call}) for name, call in ways.items()}
    tried: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TRIES):
        for name, timer in timers.items():
            tried[name].append(timer.blocked_autorange(min_run_time=_TRY_S).median)
    seconds = {name: statistics.median(found) for name, found in tried.items()}
    return min(seconds, key=lambda name: seconds[name]), seconds


class CachePool:
    """Hands out caches over buffers that live on, so that a graph's addresses stay true; stale slots are finite."""

    def __init__(self, make: Callable[[int, int], SlotCache]):
        self._make = make
        self._free: dict[tuple[int, int], list[tuple[list[torch.Tensor], list[torch.Tensor]]]] = {}

    def take(self, rows: int, slots: int) -> SlotCache:
        """Return an empty cache; when nobody holds it any more, its buffers are free again."""
        free = self._free.setdefault((rows, slots), [])
        if free:
            keys, values = free.pop()
        else:
            made = self._make(rows, slots)
            keys, values = made.keys, made.values
            for buffer in (*keys, *values):
                torch._dynamo.mark_static_address(buffer)  # else torch's own graphs refuse to write into them
        cache = SlotCache(keys, values, [0] * rows)
        weakref.finalize(cache, free.append, (keys, values))
        return cache
