"""Scoring and decoding over a real runtime: the batch must not matter, and text ends where it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.batching import batches, split
from runtime_matrix.experiments.evaluation.decoding import random_prompts
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.requests import Continuations, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.runtimes.base import LOGITS, Buckets, Cache, Hardware, ModelSource, Outputs, Runtime, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake


@pytest.fixture(scope="module")
def eager(tiny_model: Path, artifacts: Path) -> tuple[Runtime, Traits]:
    runtime = Eager()
    return runtime, runtime.load(
        ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda _: nullcontext()
    )


def words(ids: Sequence[int]) -> Callable[[int], str]:
    return lambda token: f"{token} "


def test_greedy_tokens_are_the_same_alone_and_in_a_batch(eager: tuple[Runtime, Traits]) -> None:
    prompts = [
        prompt[:length] for prompt, length in zip(random_prompts(6, 20, 128, 0), (3, 20, 7, 11, 5, 16), strict=True)
    ]
    requests = [GenerateRequest(tuple(prompt), 12) for prompt in prompts]
    together = generate(*eager, requests, words)
    assert together == [generate(*eager, [request], words)[0] for request in requests]
    assert all(len(one.ids) == 12 and one.finished_by == "length" for (one,) in together)


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_scores_do_not_depend_on_the_batch(eager: tuple[Runtime, Traits], budget: int) -> None:
    requests = [ScoreRequest(tuple(prompt[:length]), 2) for prompt, length in zip(
        random_prompts(5, 20, 128, 1), (4, 20, 9, 13, 6), strict=True)]  # fmt: skip
    alone = [score(*eager, [request])[0] for request in requests]
    for one, other in zip(score(*eager, requests, ScoringConfig(token_budget=budget)), alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert len(one.logprobs) == len(one.top1_margins)


def test_text_ends_at_a_stop_string_or_the_end_of_text() -> None:
    runtime = Fake()
    traits = runtime.load(ModelSource("fake"), Hardware("cpu", 1), lambda _: nullcontext())
    (stopped,), (ended,), (long,) = generate(
        runtime,
        traits,
        [GenerateRequest((10,), 9, ("13",)), GenerateRequest((40,), 9), GenerateRequest((60,), 3)],
        words,
        eos_ids=[44],
    )
    assert (stopped.text, stopped.finished_by) == ("11 12 ", "stop")
    assert (ended.ids, ended.finished_by) == ((41, 42, 43), "eos")
    assert (long.ids, long.finished_by) == ((61, 62, 63), "length")


def test_batches_respect_the_token_budget_and_the_largest_batch() -> None:
    traits = Traits(128, 256, "float32", 0, max_batch=4, buckets=Buckets(tokens=(8, 16)))
    lengths = [3, 16, 9, 8, 1, 2, 7, 5, 30]
    found = batches(lengths, traits, token_budget=32)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= 4
        assert len(batch) == 1 or len(batch) * max(traits.buckets.pad_tokens(lengths[i]) for i in batch) <= 32


def test_batches_have_the_rows_of_their_longest_row() -> None:
    traits, table = Traits(128, None, "float32", 0), {"10": 4, "100": 2}
    lengths = [3, 99, 9, 10, 1, 200, 5, 7, 100, 4]
    found = batches(lengths, traits, 1, rows_by_length=table)
    assert [[lengths[index] for index in batch] for batch in found] == [[200], [100], [99, 10], [9, 7, 5, 4], [3, 1]]
    unsorted = batches(lengths, traits, 1, sort=False, rows_by_length=table)
    assert [[lengths[index] for index in batch] for batch in unsorted] == [
        *([3, 99], [9, 10], [1], [200]),
        *([5, 7], [100], [4]),
    ]
    assert [len(batch) for batch in batches([3] * 5, replace(traits, max_batch=3), 1, rows_by_length=table)] == [3, 2]


def test_a_batch_is_split_if_it_has_too_many_logits() -> None:
    widths = [1, 1, 8, 1, 3, 20]
    assert list(split([0, 1, 2, 3, 4, 5], widths, 16)) == [[0, 1], [2, 3], [4], [5]]
    assert list(split([0, 1, 3], widths, 16)) == [[0, 1, 3]]


def test_a_continuation_is_tokenised_in_its_context_and_truncated_on_the_left() -> None:
    text = Text(BUNDLED / "model", bos_id=0, max_length=12)
    (((request,), was_cut),) = text.continuations([Continuations("", "The town", [" is by the river"])])
    assert not was_cut
    assert text.decode(request.ids[request.first_scored :]) == " is by the river"
    (((request,), was_cut),) = text.continuations(
        [Continuations("The town is by the river.", " So it is." * 9, [" Yes"])]
    )
    assert was_cut
    assert len(request.ids) == 13
    assert request.ids[0] == 0
    assert text.decode(request.ids[request.first_scored :]) == " Yes"


def mixed_requests(count: int = 24) -> list[GenerateRequest]:
    """Prompts and texts of very different lengths, so that rows finish at different times."""
    prompts = random_prompts(count, 24, 128, 5)
    return [
        GenerateRequest(tuple(prompt[: 2 + (5 * i) % 22]), 1 + (7 * i * i) % 31) for i, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("budget", [60, 250, 4096])
def test_texts_do_not_depend_on_their_neighbours(eager: tuple[Runtime, Traits], budget: int, refill: bool) -> None:
    requests = mixed_requests()
    found = generate(*eager, requests, words, options=GenerationConfig(token_budget=budget, refill=refill))
    assert found == [generate(*eager, [request], words)[0] for request in requests]
    assert [len(one.ids) for (one,) in found] == [request.max_new_tokens for request in requests]


@pytest.mark.parametrize("every", [2, 5, 64])
def test_texts_do_not_depend_on_the_host_sync_interval(eager: tuple[Runtime, Traits], every: int) -> None:
    requests = [replace(request, stop=("7 ", "19 1")) for request in mixed_requests()]
    soon = generate(*eager, requests, words, eos_ids=[11], options=GenerationConfig(token_budget=250))
    report = GenerationReport()
    options = GenerationConfig(token_budget=250, host_sync_interval=every)
    assert generate(*eager, requests, words, eos_ids=[11], options=options, report=report) == soon
    assert {one.finished_by for (one,) in soon} >= {"stop", "length"}
    assert report.readings < report.forwards


def test_finished_rows_are_refilled(eager: tuple[Runtime, Traits]) -> None:
    runtime, traits = eager
    steps: dict[bool, int] = {}
    for refill in (True, False):
        counted = Counting(runtime)
        generate(counted, traits, mixed_requests(), words, options=GenerationConfig(token_budget=250, refill=refill))
        steps[refill] = counted.steps
    assert steps[True] < 0.8 * steps[False]


def test_samples_share_a_prefill_and_differ_by_their_seeds(eager: tuple[Runtime, Traits]) -> None:
    runtime, traits = eager
    counted = Counting(runtime)
    request = GenerateRequest((5, 6, 7, 8), 12, temperature=1.0, seeds=(1, 2, 3, 1))
    (samples,) = generate(counted, traits, [request], words)
    assert counted.prefilled_rows == 1
    assert samples[0] == samples[3]
    assert len({one.ids for one in samples}) == 3
    alone = [
        generate(*eager, [GenerateRequest((5, 6, 7, 8), 12, temperature=1.0, seeds=(seed,))], words)[0][0]
        for seed in (1, 2, 3)
    ]
    assert samples[:3] == alone


def test_sampling_follows_the_distribution(eager: tuple[Runtime, Traits]) -> None:
    runtime, traits = eager
    request = GenerateRequest((5, 6, 7), 1, temperature=1.0, seeds=tuple(range(4000)))
    (samples,) = generate(runtime, traits, [request], words, options=GenerationConfig(token_budget=100_000))
    probabilities = runtime.forward(torch.tensor([[5, 6, 7]]), [3]).logits_BKV[0, 0].double().softmax(0)
    counts = torch.bincount(torch.tensor([one.ids[0] for one in samples]), minlength=128) / 4000
    assert float((counts - probabilities).abs().max()) < 4 * 0.5 / 4000**0.5
    narrow = GenerateRequest((5, 6, 7), 1, temperature=1.0, top_p=0.01, seeds=tuple(range(50)))
    (samples,) = generate(runtime, traits, [narrow], words)
    assert {one.ids[0] for one in samples} == {int(probabilities.argmax())}


def test_a_stop_string_may_span_tokens_and_each_finished_text_is_reported() -> None:
    runtime = Fake()
    traits = runtime.load(ModelSource("fake"), Hardware("cpu", 1), lambda _: nullcontext())
    told: list[tuple[int, int]] = []
    requests = [GenerateRequest((10,), 9, ("3 1", "99")), GenerateRequest((40,), 2)]
    (stopped,), (short,) = generate(
        runtime, traits, requests, words, on_done=lambda item, sample, one: told.append((item, sample))
    )
    assert (stopped.text, stopped.ids, stopped.finished_by) == ("11 12 1", (11, 12, 13, 14), "stop")
    assert short.text == "41 42 "
    assert told == [(1, 0), (0, 0)]


def test_text_decoded_piecewise_equals_text_decoded_at_once() -> None:
    text = Text(BUNDLED / "model", bos_id=0, max_length=None)
    ids = text.encode("Zürich 北京 🦦 is by the river.\n\n    return x")
    piece = text.piecewise([0])
    assert "".join(piece(token) for token in ids) == text.decode(ids)


def test_a_prompt_leaves_room_for_new_tokens() -> None:
    text = Text(BUNDLED / "model", bos_id=0, max_length=20)
    ids, was_cut = text.prompt("The town is by the river. " * 9, new_tokens=8)
    assert was_cut
    assert len(ids) == 12
    assert ids[0] == 0
    assert text.prompt("The town", 8) == ((0, *text.encode("The town")), False)


class Counting(Runtime):
    """Counts what a runtime is asked; a wrapper for tests."""

    def __init__(self, inner: Runtime):
        self._inner, self.steps, self.prefilled_rows = inner, 0, 0

    @override
    def load(self, *arguments: object) -> Traits:
        raise NotImplementedError

    @override
    def new_cache(self, rows: int, capacity: int) -> Cache:
        return self._inner.new_cache(rows, capacity)

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
        self.steps += ids_BT.shape[1] == 1
        self.prefilled_rows += len(ids_BT) * (ids_BT.shape[1] > 1)
        return self._inner.forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)

    @override
    def branch(self, cache: Any, rows: int, capacity: int) -> Cache:
        return self._inner.branch(cache, rows, capacity)

    @override
    def synchronize(self) -> None:
        self._inner.synchronize()

    @override
    def close(self) -> None:
        self._inner.close()
