"""The agreement check, on runtimes that are right where a prompt is read and wrong behind a cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.evaluation.agreement import compare, prompt_logits, stepped_logits
from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.slots import SlotCache

ROWS = [[5, 9, 11, 2, 7], [3, 3, 8], [1, 2, 3, 4, 5, 6, 7], [9, 8, 7, 6]]


class ForgetsTheOrder(Eager):
    """Its caches stay as they are when rows are selected."""

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        cache = super().new_cache(rows, capacity)
        cache.select = lambda rows: cache  # type: ignore[method-assign]
        return cache


class SeesPadding(Eager):
    """Takes every row for as long as the longest."""

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
        if cache is not None and ids_BT.shape[1] == 1:
            cache.row_lengths = [max(cache.row_lengths)] * len(lengths)
        return super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)


@pytest.mark.parametrize(("kind", "is_right"), [(Eager, True), (ForgetsTheOrder, False), (SeesPadding, False)])
def test_steps_behind_a_cache_are_compared(
    kind: type[Eager], is_right: bool, tiny_model: Path, artifacts: Path
) -> None:
    runtime = kind()
    traits = runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    whole = prompt_logits(runtime, ROWS)
    found = compare(stepped_logits(runtime, ROWS, traits), [logits_TV[-2:] for logits_TV in whole])
    assert (found.max_logit_difference < 1e-4) == is_right
    assert found.positions == 2 * len(ROWS)
