"""A stand-in for a CUDA graph: it runs what was captured, over the buffers of then."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch


class Graph:
    """Knows the buffers of its capture and no others, and does not keep them alive."""

    def __init__(self, step: Any, own: Sequence[torch.Tensor], keys: Any, values: Any, output: torch.Tensor):
        self._step, self._own, self._output = step, own, output
        self._buffers = [[weakref.ref(buffer) for buffer in side] for side in (keys, values)]

    def replay(self) -> None:
        keys, values = ([ref() for ref in side] for side in self._buffers)
        assert None not in (*keys, *values), "replayed onto freed memory"
        self._output.copy_(self._step(*self._own, keys, values))


def capture(
    captured: Any, inputs: Sequence[torch.Tensor], keys: Any, values: Any
) -> tuple[Graph, list[torch.Tensor], torch.Tensor]:
    """Stands for `CapturedStep._capture`."""
    own = [value.clone() for value in inputs]
    output = captured._step(*own, keys, values).clone()
    return Graph(captured._step, own, keys, values, output), own, output
