"""A response is observed alike however requests are batched, and memory does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice

import pytest
import torch

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation import observing
from runtime_matrix.experiments.evaluation.observing import observe, observe_batches, windows
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import ObserveRequest, cut_context
from runtime_matrix.runtimes.base import Buckets, Traits
from tests.experiments.evaluation.observed_runtime import (
    HEADS,
    LAYERS,
    VOCABULARY,
    FakeObserved,
    fake_traits,
    observe_requests,
    same,
)

REQUESTS = observe_requests(20)
PADDED = Buckets(batch=(4, 16, 64), tokens=(16, 64, 128))


@pytest.mark.parametrize(
    "traits",
    [fake_traits(), fake_traits(buckets=PADDED), fake_traits(max_batch=2)],
    ids=["plain", "padded", "two rows at most"],
)
@pytest.mark.parametrize("sort", [True, False])
def test_a_batch_gives_the_same_as_one_by_one(traits: Traits, sort: bool) -> None:
    runtime = FakeObserved()
    together = observe(runtime, traits, REQUESTS, ScoringConfig(sort_by_length=sort))
    assert len(runtime.shapes) < len(REQUESTS)
    for options in (ScoringConfig(batch=False), ScoringConfig(batch_invariant=True)):
        alone = FakeObserved()
        one_by_one = observe(alone, fake_traits(), REQUESTS, options)
        assert [rows for rows, _ in alone.shapes] == [1] * len(REQUESTS)
        assert all(map(same, together, one_by_one))


def test_a_token_is_observed_where_it_is_predicted() -> None:
    request = ObserveRequest((1, 5, 6, 7, 8, 9), range(1, 3), 4)
    (result,) = observe(FakeObserved(), fake_traits(), [request])
    logits_KV, external_KX, knowledge_KL = FakeObserved()._row(list(request.ids), [3, 4], request.context)
    expected_T = torch.log_softmax(logits_KV, 1)[range(2), [8, 9]]
    assert torch.allclose(torch.tensor(result.logprobs_T), expected_T, atol=1e-6)
    assert result.external_context_TH.tolist() == external_KX.tolist()
    assert result.parametric_knowledge_TL.tolist() == knowledge_KL.tolist()
    assert (result.external_context_TH.shape[1], result.heads_per_layer) == (LAYERS * HEADS, HEADS)


@pytest.mark.parametrize(
    ("broken", "message"), [("logits", "logits are"), ("external_context", "external_context are")]
)
def test_outputs_that_are_not_finite_are_an_error(broken: str, message: str) -> None:
    with pytest.raises(FloatingPointError, match=rf"the runtime's {message} not finite \(NaN\) at an observed token"):
        observe(FakeObserved(broken), fake_traits(), REQUESTS)


def test_positions_times_vocabulary_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 12
    monkeypatch.setattr(observing, "_MOST_VALUES", most * VOCABULARY)
    bounded = FakeObserved()
    results = observe(bounded, fake_traits(batch_tokens=10**6), REQUESTS)
    assert max(rows * positions for rows, positions in bounded.shapes if rows > 1) <= most
    assert all(map(same, results, observe(FakeObserved(), fake_traits(), REQUESTS)))


def test_positions_times_heads_are_bounded_once_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "_MOST_VALUES", 5 * LAYERS * HEADS)
    runtime = FakeObserved()
    traits = fake_traits(vocabulary=1, batch_tokens=40)
    list(observe_batches(runtime, traits, REQUESTS, ScoringConfig(), Tally()))
    assert runtime.shapes[0][0] == 1
    assert all(rows * positions <= 5 for rows, positions in runtime.shapes[1:] if rows > 1)


def test_work_is_counted() -> None:
    tally = Tally()
    results = [*observe_batches(FakeObserved(), fake_traits(), REQUESTS, ScoringConfig(), tally)]
    assert sorted(index for batch in results for index, _ in batch) == list(range(len(REQUESTS)))
    assert tally.run_tokens == tally.asked_tokens == sum(len(request.ids) - 1 for request in REQUESTS)
    assert (tally.forwards, tally.forward_rows) == (len(results), len(REQUESTS))


def test_an_endless_stream_is_read_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "_MOST_TOKENS", 10)
    read = []

    def endless() -> Iterator[ObserveRequest]:
        for seed in count():
            read.append(seed)
            yield observe_requests(1, seed)[0]

    first = list(islice(windows(endless(), 4), 5))
    assert len(read) <= 1 + sum(map(len, first))
    assert all(len(window) <= 4 and sum(r.tokens for r in window) <= 10 for window in first)
    monkeypatch.setattr(observing, "_MOST_TOKENS", 100)
    assert [len(window) for window in windows(iter(REQUESTS[:1] * 5), 2)] == [2, 2, 1]
    monkeypatch.setattr(observing, "_MOST_TOKENS", 1)
    assert [len(window) for window in windows(iter(REQUESTS[:3]), 2)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("context", "first"), [(range(0), 2), (range(1, 4), 3), (range(1, 3), 5), (range(-1, 2), 3), (range(0, 4, 2), 4)]
)
def test_parts_that_do_not_fit_are_an_error(context: range, first: int) -> None:
    with pytest.raises(ValueError, match="are no parts of 5 tokens"):
        ObserveRequest((1, 2, 3, 4, 5), context, first)


@pytest.mark.parametrize(
    ("limit", "ids", "context", "cut"),
    [
        (None, (1, 10, 11, 12, 2, 3, 4), range(1, 4), 0),
        (6, (1, 10, 11, 12, 2, 3, 4), range(1, 4), 0),  # the last token is never run
        (5, (1, 10, 11, 2, 3, 4), range(1, 3), 1),
        (4, (1, 10, 2, 3, 4), range(1, 2), 2),
    ],
)
def test_the_end_of_a_context_that_is_too_long_is_cut(
    limit: int | None, ids: tuple[int, ...], context: range, cut: int
) -> None:
    result = cut_context((1, 10, 11, 12, 2, 3, 4), range(1, 4), 5, limit)
    assert result == (ObserveRequest(ids, context, 5 - cut), cut)
    assert ids[-2:] == (3, 4)


@pytest.mark.parametrize("limit", [3, 1])
def test_without_room_for_the_context_nothing_is_observed(limit: int) -> None:
    assert cut_context((1, 10, 11, 12, 2, 3, 4), range(1, 4), 5, limit) is None


def test_logprobs_are_of_a_distribution() -> None:
    context = (3, 4, 5)
    endings = [ObserveRequest((*context, token), range(2), 3) for token in range(VOCABULARY)]
    total = sum(math.exp(result.logprobs_T[0]) for result in observe(FakeObserved(), fake_traits(), endings))
    assert total == pytest.approx(1, abs=1e-5)
