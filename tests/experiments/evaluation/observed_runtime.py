"""A fake runtime with the outputs that are observed: numbers made from the tokens before a position and its context."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from runtime_matrix.experiments.evaluation.observing import OUTPUTS
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs, Phase, Runtime, Traits, check_contexts

LAYERS, HEADS, VOCABULARY = 2, 3, 64


class FakeObserved(Runtime):
    """Fails where a row's numbers would depend on other rows; `shapes` has rows and positions of each forward."""

    def __init__(self, broken: str = ""):
        self.shapes: list[tuple[int, int]] = []
        self._broken = broken  # the output with a NaN at its last position

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        return fake_traits()

    @override
    def new_cache(self, rows: int, capacity: int) -> Any:
        raise AssertionError("observing needs no cache")

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
        check_contexts(outputs, contexts, lengths, cache)
        assert at_BK is not None
        self.shapes.append((len(lengths), at_BK.shape[1]))
        rows = [self._row(ids_BT[b].tolist(), at_BK[b].tolist(), contexts[b]) for b in range(len(lengths))]
        logits_BKV, external_BKX, knowledge_BKL = (torch.stack(parts) for parts in zip(*rows, strict=True))
        for name, values in (("logits", logits_BKV), ("external_context", external_BKX)):
            if self._broken == name:
                values[0, -1, 0] = torch.nan
        return Outputs(logits_BKV, external_BKX.unflatten(2, (LAYERS, HEADS)), knowledge_BKL)

    def _row(self, ids: list[int], at: list[int], context: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        seed_K = torch.tensor([float(sum((i + 1) * ids[i] for i in range(position + 1))) for position in at])
        source = float(sum(ids[context.start : context.stop]))
        wave = torch.arange(VOCABULARY, dtype=torch.float32)
        logits_KV = torch.sin(seed_K[:, None] + wave)
        external_KX = torch.cos(source + seed_K[:, None] + wave[: LAYERS * HEADS])
        return logits_KV, external_KX, torch.sin(seed_K[:, None] * 2 + wave[:LAYERS]) ** 2

    @override
    def synchronize(self) -> None:
        pass

    @override
    def close(self) -> None:
        pass


def fake_traits(**options: Any) -> Traits:
    return replace(Traits(VOCABULARY, None, "float32", None, outputs=OUTPUTS, batch_tokens=100), **options)


def observe_requests(
    count: int, seed: int = 0, vocabulary: int = VOCABULARY, longest: int = 30
) -> list[ObserveRequest]:
    """Return requests of different lengths; the context starts at the second token."""
    drawn = random.Random(seed)
    requests = []
    for _ in range(count):
        context, rest, response = drawn.randint(1, longest), drawn.randint(0, 3), drawn.randint(1, longest // 3)
        ids = tuple(drawn.randrange(3, vocabulary) for _ in range(1 + context + rest + response))
        requests.append(ObserveRequest(ids, range(1, 1 + context), 1 + context + rest))
    return requests


def same(first: Observed, second: Observed, tolerance: float = 0.0) -> bool:
    return first.heads_per_layer == second.heads_per_layer and all(
        mine.shape == other.shape
        and mine.dtype == other.dtype == np.float32
        and np.abs(mine - other).max() <= tolerance
        for mine, other in zip(_arrays(first), _arrays(second), strict=True)
    )


def _arrays(observed: Observed) -> list[Any]:
    return [observed.logprobs_T, observed.external_context_TH, observed.parametric_knowledge_TL]
