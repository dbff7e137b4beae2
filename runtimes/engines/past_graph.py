"""Base class of engines over a graph with a growing past, on a CPU: a step reads only the slots that are in use.

Shapes: B rows, T new tokens per row, K requested positions, V vocabulary.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Outputs, Runtime, Traits, check_outputs
from runtime_matrix.runtimes.engines.exported_graph import ExportedGraph
from runtime_matrix.runtimes.engines.graph_forms import MASK, WINDOW_MASK
from runtime_matrix.runtimes.engines.past import PastCache, PastShape
from runtime_matrix.runtimes.engines.past_branch import PastBranch
from runtime_matrix.runtimes.engines.positions import last_positions

Tensors = Mapping[str, torch.Tensor]


class PastGraph(Runtime):
    """An engine over the form `Past` of `graph_forms`. `load` calls `_describe`; `_execute` runs the graph."""

    _traits: Traits
    _shape: PastShape
    _held_names: Sequence[str]  # the graph's inputs that hold the past, in the order of the cache
    _names: Sequence[str]  # the graph's outputs: the logits, then the new past
    _has_positions: bool
    _has_mask: bool
    _window: int | None
    _max_length: int | None

    def _describe(self, graph: ExportedGraph, traits: Traits) -> Traits:
        """Set the attributes from the graph and its traits; return the traits of an engine with a growing past."""
        self._held_names, self._has_positions = graph.held_names, graph.has_positions
        self._names = ["logits", *(f"new_{name}" for name in graph.held_names)]
        self._shape = PastShape(len(graph.held_names), graph.heads, graph.width, graph.dtype)
        self._has_mask, self._window = graph.has_mask, graph.window
        self._max_length = traits.max_length
        self._traits = replace(traits, shares_prefix=True, packs_rows=True, batch_tokens=256)
        return self._traits

    @abstractmethod
    def _execute(self, inputs: Tensors, keep: bool) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Return the logits (B, K, V) and, if `keep`, the graph's new keys and values in the order of the cache.

        All tensors of `inputs` are contiguous.
        """

    @override
    def new_cache(self, rows: int, capacity: int) -> PastCache:
        return PastCache(self._shape, rows)

    @override
    def branch(self, cache: PastCache, rows: int, capacity: int) -> PastBranch:
        return PastBranch.from_trunk(cache, rows, keeps=capacity > 0)

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: PastCache | PastBranch | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        check_outputs(outputs, self._traits)
        rows, tokens = ids_BT.shape
        if at_BK is None:
            at_BK = torch.zeros(rows, 1, dtype=torch.long) if tokens == 1 else last_positions(lengths)
        if isinstance(cache, PastBranch):
            return self._forward_branch(ids_BT, lengths, cache, at_BK)
        held = cache if cache is not None else self.new_cache(len(lengths), tokens)
        mask_BTS = held.mask(tokens)
        inputs = {"ids": ids_BT, **self._masks(mask_BTS, partial(held.window_mask, mask_BTS)), "at": at_BK}
        if self._has_positions:
            inputs["positions"] = self._positions(held.row_lengths, tokens)
        logits_BKV, present = self._run(inputs, held, keep=cache is not None)
        if cache is not None:
            cache.advance(lengths, tokens, present)
        return Outputs(logits_BKV.float())

    def _forward_branch(
        self, ids_BT: torch.Tensor, lengths: Sequence[int], branch: PastBranch, at_BK: torch.Tensor
    ) -> Outputs:
        packed = branch.pack(ids_BT, lengths, at_BK)
        masks = self._masks(packed.mask_1NS, partial(branch.window_mask, packed))
        inputs = {"ids": packed.ids_1N, **masks, "at": packed.at_1K}
        if self._has_positions:
            inputs["positions"] = packed.positions_1N.clamp(max=self._last_position)
        logits_1KV, present = self._run(inputs, branch.memory, keep=branch.keeps)
        if branch.keeps:
            branch.advance(lengths, packed, present)
        return Outputs(logits_1KV.view(*at_BK.shape, -1).float())

    def _run(self, inputs: Tensors, held: PastCache, keep: bool) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        contiguous = {name: value.contiguous() for name, value in inputs.items()}
        return self._execute({**contiguous, **dict(zip(self._held_names, held.past, strict=True))}, keep)

    def _masks(self, full: torch.Tensor, in_window: Callable[[int], torch.Tensor]) -> Tensors:
        """Return the masks that are inputs of the graph; `in_window` limits the full one to a window of so many."""
        masks = {MASK: full} if self._has_mask else {}
        return masks if self._window is None else masks | {WINDOW_MASK: in_window(self._window)}

    def _positions(self, past: Sequence[int], tokens: int) -> torch.Tensor:
        last = self._last_position
        if tokens == 1:
            return torch.tensor([[min(held, last)] for held in past])
        return (torch.tensor(past)[:, None] + torch.arange(tokens)).clamp(max=last)

    @property
    def _last_position(self) -> int:
        return (self._max_length or sys.maxsize) - 1  # positions of padding are clamped to it

    @override
    def synchronize(self) -> None:
        """Do nothing: `_execute` is synchronous."""
