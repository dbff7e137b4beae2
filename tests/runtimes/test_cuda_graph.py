"""Captured steps without a GPU: a stand-in runs what was captured, over the buffers of then, as a CUDA graph does."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import DraftModel
from runtime_matrix.runtimes.base import Buckets, Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.cuda_graph import CachePool, CapturedStep
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.slots import SlotCache
from tests.runtimes.captured import capture


class StandIn(CapturedStep):
    captures = replays = 0

    @override
    def __call__(self, *given: Any) -> torch.Tensor:
        self.replays += 1
        return super().__call__(*given)

    @override
    def _capture(self, inputs: Sequence[torch.Tensor], keys: Any, values: Any) -> Any:
        self.captures += 1
        return capture(self, inputs, keys, values)


@pytest.fixture
def pair(
    tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Eager, Traits, Compiled, Traits, StandIn]]:
    """Yield eager, and `compile` with captured steps over pooled caches; its graphs run as they are."""
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    source, hardware = ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts)
    eager, captured = Eager(), Compiled(batch_buckets=[1, 2, 8], token_buckets=[8, 32])
    traits = [runtime.load(source, hardware, lambda name: nullcontext()) for runtime in (eager, captured)]
    pool = CachePool(eager.new_cache)
    assert captured._step is not None
    stand_in = StandIn(captured._step)
    captured._pool, captured._step = pool, stand_in
    yield eager, traits[0], captured, traits[1], stand_in
    captured.close()


def scores(runtime: Runtime, traits: Traits) -> list[float]:
    """Return the log-probabilities of 24 questions with four choices of two to four tokens each."""
    drawn = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(8, 128, (count,), generator=drawn).tolist())

    requests = []
    for _ in range(24):
        stem = ids(12)
        requests += [ScoreRequest((*stem, *ids(2 + choice % 3)), len(stem)) for choice in range(4)]
    found = score(runtime, traits, requests, ScoringConfig(token_budget=128))
    return [value for one in found for value in one.logprobs]


def test_scores_are_those_of_eager(pair: tuple[Eager, Traits, Compiled, Traits, StandIn]) -> None:
    eager, its, captured, own, step = pair
    assert scores(captured, own) == pytest.approx(scores(eager, its), abs=1e-4)
    assert step.replays > step.captures > 0


@pytest.mark.parametrize("drafts", [False, True])
def test_texts_are_those_of_eager(pair: tuple[Eager, Traits, Compiled, Traits, StandIn], drafts: bool) -> None:
    """Rows end one after the other, so that the batch shrinks to smaller ones."""
    eager, its, captured, own, step = pair
    requests = [GenerateRequest(tuple(range(8, 14 + row)), max_new_tokens=4 + 5 * row) for row in range(6)]
    options = GenerationConfig(refill=False)

    def texts(runtime: Runtime, traits: Traits, drafter: DraftModel | None) -> list[list[int]]:
        found = generate(runtime, traits, requests, lambda ids: str, (), options, drafter=drafter)
        return [list(one.ids) for (one,) in found]

    drafter = DraftModel(captured, own, 3) if drafts else None
    assert texts(captured, own, drafter) == texts(eager, its, None)
    assert step.replays > step.captures > 0


def test_a_graph_dies_with_its_buffers_and_no_other_cache_gets_it() -> None:
    step = StandIn(lambda ids_BT, slots_BT, at_BK, keys, values: keys[0].sum() + ids_BT)
    zero = torch.zeros(1)

    def cache(slots: int) -> SlotCache:
        return SlotCache([torch.ones(1, 1, slots, 1)], [torch.ones(1, 1, slots, 1)], [0])

    for slots in (256, 512, 256, 512):
        held = cache(slots)
        for _ in range(2):
            assert step(zero, zero, zero, held.keys, held.values).item() == slots
        del held
        gc.collect()
        assert step._graphs == {}
    assert step.captures == 4


def test_what_is_selected_moves_within_the_pool() -> None:
    made: list[tuple[int, int]] = []

    def make(rows: int, slots: int) -> SlotCache:
        made.append((rows, slots))
        return SlotCache([torch.rand(rows, 1, slots, 1)], [torch.rand(rows, 1, slots, 1)], [0] * rows)

    pool = CachePool(make)
    held = pool.take(4, 16)
    held.row_lengths = [1, 2, 3, 4]
    for _ in range(3):
        chosen = held.select([3, 0])
        assert chosen.lengths == [4, 1]
        assert torch.equal(chosen.keys[0], held.keys[0][[3, 0]])
        again = chosen.select([1])
        assert torch.equal(again.values[0], held.values[0][:1])
        del chosen, again
        gc.collect()
    assert made == [(4, 16), (2, 16), (1, 16)]


def test_free_buffers_take_no_more_than_what_was_used_at_once() -> None:
    pool = CachePool(lambda rows, slots: SlotCache([torch.zeros(rows, 1, slots, 1)], [torch.zeros(0)], [0] * rows))
    for slots in (1, 2, 3, 8, 21, 39):
        pool.take(1, slots)
        gc.collect()
        held = sum(free.nbytes for free in pool._free)
        assert slots * 4 <= held <= 39 * 4
    assert pool.take(1, 39).keys[0].shape[2] == 39


def test_buckets_bound_the_number_of_graphs(pair: tuple[Eager, Traits, Compiled, Traits, StandIn]) -> None:
    *_, captured, own, step = pair
    assert isinstance(own.buckets, Buckets)
    scores(captured, own)
    before = step.captures
    scores(captured, own)
    assert step.captures == before
