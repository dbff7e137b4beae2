"""Prompts in chunks, and generation without a cache: the same tokens and texts as without these options."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.evaluation.faces import face_of
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.prefill import passes, prefill, prefill_room
from runtime_matrix.experiments.evaluation.requests import GenerateRequest
from runtime_matrix.experiments.evaluation.speculation import DraftModel
from runtime_matrix.runtimes.base import LOGITS, Buckets, Hardware, ModelSource, Outputs, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.slots import SlotCache
from tests.experiments.evaluation.test_core import mixed_requests, words

OPTIONS = [GenerationConfig(prefill_chunk=5), GenerationConfig(prefill_chunk=1), GenerationConfig(kv_cache=False)]
PADDED = Buckets(batch=(4, 8), tokens=(1, 4, 32))


class Watched(Eager):
    """Eager, which notes the rows, the tokens and the cached tokens of each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[int, int, int]] = []

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
        held = max(cache.lengths) if isinstance(cache, SlotCache) else 0
        self.passes.append((*ids_BT.shape, held))
        return super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)


@pytest.fixture
def loaded(tiny_model: Path, artifacts: Path) -> tuple[Watched, Traits]:
    runtime = Watched()
    return runtime, runtime.load(
        ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda _: nullcontext()
    )


def prompts() -> list[list[int]]:
    rows = random_prompts(6, 20, 128, 0)
    return [row[:length] for row, length in zip(rows, (3, 20, 7, 11, 1, 16), strict=True)]


@pytest.mark.parametrize("buckets", [Buckets(), PADDED], ids=["as they are", "padded"])
@pytest.mark.parametrize("chunk", [1, 4, 7, 19, 20, 21])
def test_chunks_give_the_logits_and_the_cache_of_whole_prompts(
    loaded: tuple[Watched, Traits], buckets: Buckets, chunk: int
) -> None:
    runtime, traits = loaded[0], replace(loaded[1], buckets=buckets)
    whole_B1V, cache = prefill(runtime, traits, prompts(), 4)
    runtime.passes.clear()
    found_B1V, other = prefill(runtime, traits, prompts(), 4, chunk)
    torch.testing.assert_close(found_B1V[:6], whole_B1V[:6], atol=1e-5, rtol=0)
    assert other.lengths[:6] == cache.lengths[:6] == [len(prompt) for prompt in prompts()]
    assert len(runtime.passes) == passes(20, chunk)
    assert all(tokens <= buckets.pad_tokens(chunk) for _, tokens, _ in runtime.passes)
    assert other.slots == prefill_room(20, traits, chunk) + 4


@pytest.mark.parametrize("options", OPTIONS)
def test_timed_tokens_are_the_same(loaded: tuple[Watched, Traits], options: GenerationConfig) -> None:
    whole = decode_batch(*loaded, prompts(), 8)
    assert decode_batch(*loaded, prompts(), 8, options=options) == whole
    assert face_of(*loaded, options).decode(prompts(), 8).tokens == whole


@pytest.mark.parametrize("options", OPTIONS)
def test_texts_are_the_same(loaded: tuple[Watched, Traits], options: GenerationConfig) -> None:
    requests = mixed_requests(8)
    limited = replace(options, token_budget=60)
    assert generate(*loaded, requests, words, options=limited) == generate(*loaded, requests, words)
    (plain,) = generate(*loaded, requests[:1], words)
    assert generate(*loaded, requests[:1], words, options=options, drafter=DraftModel(*loaded, 3, 2)) == [plain]


def test_the_timed_rounds_and_the_load_run_chunks(loaded: tuple[Watched, Traits]) -> None:
    runtime, _ = loaded
    options = GenerationConfig(prefill_chunk=6)
    face_of(*loaded, options).decode([prompts()[1]], 2)
    assert runtime.passes == [(1, 2, 0), (1, 6, 2), (1, 6, 8), (1, 6, 14), (1, 1, 20)]
    runtime.passes.clear()
    report = GenerationReport()
    generate(*loaded, [GenerateRequest(tuple(prompts()[1]), 2)], words, options=options, report=report)
    assert runtime.passes == [(1, 2, 0), (1, 6, 2), (1, 6, 8), (1, 6, 14), (1, 1, 20)]
    assert report.forwards == 5


def test_without_a_cache_each_step_runs_all_tokens(loaded: tuple[Watched, Traits]) -> None:
    runtime, traits = loaded[0], replace(loaded[1], buckets=PADDED)
    decode_batch(runtime, traits, [prompts()[0]], 3, options=GenerationConfig(kv_cache=False))
    assert runtime.passes == [(4, 4, 0), (4, 4, 0), (4, 32, 0)]  # padded, so that no graph is compiled for a step
