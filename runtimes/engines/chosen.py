"""A runtime that delegates to another engine, which is chosen at loading time at the latest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Cache, Outputs, Runtime
from runtime_matrix.runtimes.operations import Operation

if TYPE_CHECKING:
    import torch


class Chosen(Runtime):
    """Base class: `load` of a subclass sets and loads `_engine`; all other methods delegate to it."""

    _engine: Runtime | None

    @override
    def new_cache(self, rows: int, capacity: int) -> Cache:
        return self._loaded.new_cache(rows, capacity)

    @override
    def branch(self, cache: Any, rows: int, capacity: int) -> Cache:
        return self._loaded.branch(cache, rows, capacity)

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: Any = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        return self._loaded.forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)

    @override
    def synchronize(self) -> None:
        self._loaded.synchronize()

    @override
    def counters(self) -> dict[str, int]:
        return self._loaded.counters()

    @override
    def profile(self, work: Callable[[], None]) -> Sequence[Operation] | None:
        return self._loaded.profile(work)

    @override
    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def _loaded(self) -> Runtime:
        assert self._engine is not None
        return self._engine
