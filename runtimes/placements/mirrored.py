"""A runtime whose calls are mirrored by other processes, each with its part of the model's matrices.

Rank 0 is this process. It sends each call to the other ranks and performs it too; within a forward, the parts of all
ranks are added up by torch.distributed. Caches stay where they are: only their numbers are sent.
Shapes: B rows, T new tokens per row, K requested positions.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    LOGITS,
    Hardware,
    ModelSource,
    Outputs,
    Phase,
    Runtime,
    Traits,
    check_outputs,
)
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.placements import group
from runtime_matrix.runtimes.placements.orders import (
    BranchOff,
    Caches,
    Forward,
    Message,
    NewCache,
    Order,
    Replace,
    Rewind,
    Select,
    perform,
)
from runtime_matrix.runtimes.placements.rank_processes import RankProcesses
from runtime_matrix.runtimes.placements.tensor_parallel import TensorParallel
from runtime_matrix.runtimes.weights import full, sharding


class MirroredCache:
    """A cache that every rank holds, with its own heads; `key` is its number."""

    def __init__(self, runtime: Mirrored, key: int):
        self._runtime, self.key = runtime, key
        weakref.finalize(self, runtime.forget, key).atexit = False

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return self._runtime.lengths(self.key)

    def select(self, rows: Sequence[int]) -> MirroredCache:
        """Return a copy of the given rows, in that order."""
        return self._runtime.made(lambda key: Select(key, self.key, list(rows)))

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        self._runtime.change(Rewind(self.key, list(lengths)))

    def replace(self, rows: Sequence[int], source: MirroredCache) -> None:
        """Replace row `rows[i]` by row i of `source`."""
        self._runtime.change(Replace(self.key, list(rows), source.key))


class Mirrored(Runtime):
    """Rank 0 of `part`, an unloaded runtime that each rank runs over its part of the weights.

    A rank that ends, fails or does not answer fails the call, and all later ones, with one line.
    """

    def __init__(self, part: Runtime, placement: TensorParallel):
        self._part, self._placement = part, placement
        self._processes: RankProcesses | None = None
        self._traits: Traits | None = None
        self._caches: Caches = {}
        self._keys = count()
        self._unused: deque[int] = deque()  # numbers of caches that nobody holds; the next message frees them

    @override
    def check(self, hw: Hardware) -> None:
        self._part.check(hw)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        group.check_none()
        try:
            self._traits = self._load(model, hw, phase)
        except BaseException:
            self.close()
            raise
        return self._traits

    def _load(self, model: ModelSource, hw: Hardware, phase: Phase) -> Traits:
        count, backend = self._placement.ranks(hw), self._placement.backend(hw)
        with phase("import"):
            sharding.check_model(model, count)
        with phase("weights"):
            source = model if model.folder is not None else replace(model, folder=full.drawn_folder(model, hw))
        with phase("import"):
            processes = self._processes = RankProcesses(self._part, self._placement, source, hw)
            processes.wait_until_imported()
        with group.on_loopback():
            with phase("connect"):
                processes.connect()
            with processes.watched():
                traits = self._part.load(source, processes.hw, phase)
        with phase("wait for ranks"):
            ranks = (*traits.ranks, *processes.wait_until_loaded())
        return replace(
            traits,
            ranks=ranks,
            weight_bytes=sum(rank.weight_bytes for rank in ranks),
            weight_disk_bytes=full.disk_bytes(model.folder),
            notes=(*traits.notes, _note(hw, processes.hw, count, backend)),
        )

    @override
    def processes(self) -> Sequence[int]:
        return self._processes.ids if self._processes is not None else ()

    @override
    def new_cache(self, rows: int, capacity: int) -> MirroredCache:
        return self.made(lambda key: NewCache(key, rows, capacity))

    @override
    def branch(self, cache: MirroredCache, rows: int, capacity: int) -> MirroredCache:
        return self.made(lambda key: BranchOff(key, cache.key, rows, capacity))

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: MirroredCache | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        processes = self._loaded
        assert self._traits is not None
        check_outputs(outputs, self._traits)
        order = Forward(
            ids_BT.cpu().numpy(),
            list(lengths),
            None if cache is None else cache.key,
            None if at_BK is None else at_BK.cpu().numpy(),
        )
        processes.send(Message(order, self._freed()))
        with processes.watched():
            computed = perform(self._part, self._caches, order)
        assert computed is not None
        return computed

    def made(self, order: Callable[[int], Order]) -> MirroredCache:
        """Return the new cache of an order, which is given the cache's number."""
        key = next(self._keys)
        self.change(order(key))
        return MirroredCache(self, key)

    def change(self, order: Order) -> None:
        """Change caches on all ranks. On this rank first: an order that it refuses is not sent."""
        processes = self._loaded
        perform(self._part, self._caches, order)
        processes.send(Message(order, self._freed()))

    def lengths(self, key: int) -> list[int]:
        """Return the tokens held by each row of a cache."""
        held: list[int] = self._caches[key].lengths
        return held

    def forget(self, key: int) -> None:
        """Free a cache: on this rank now, on the others with the next message."""
        if self._caches.pop(key, None) is not None:
            self._unused.append(key)

    @override
    def synchronize(self) -> None:
        self._part.synchronize()

    @override
    def profile(self, work: Callable[[], None]) -> Sequence[Operation] | None:
        return self._part.profile(work)

    @override
    def counters(self) -> dict[str, int]:
        return self._part.counters()

    @override
    def close(self) -> None:
        self._caches.clear()
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close(self._part.close)
        self._part.close()

    def _freed(self) -> list[int]:
        return [self._unused.popleft() for _ in range(len(self._unused))]

    @property
    def _loaded(self) -> RankProcesses:
        assert self._processes is not None
        return self._processes


def _note(hw: Hardware, own: Hardware, ranks: int, backend: str) -> str:
    """Return what the record says about the ranks; `own` is the hardware of one of them."""
    note = f"computed by {ranks} ranks over {backend}"
    if hw.device != "cpu":
        return f"{note}, one GPU each"
    more = "" if own.threads * ranks == hw.threads else f", {own.threads * ranks} in all, where hw.threads={hw.threads}"
    return f"{note}, {own.threads} thread{'s' if own.threads > 1 else ''} each{more}"
