"""Scoring and decoding over a real runtime: the batch must not matter, and text ends where it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from experiments.cells.plan import BUNDLED
from experiments.core.batching import batches
from experiments.core.decoding import random_prompts
from experiments.core.generation import GenerateRequest, generate
from experiments.core.scoring import ScoreRequest, score
from experiments.core.text import Text
from runtimes.base import Buckets, Hardware, ModelSource, Runtime, Traits
from runtimes.engines.eager import Eager
from runtimes.engines.fake import Fake


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
    for one, other in zip(score(*eager, requests, budget), alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert len(one.logprobs) == len(one.gaps)


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


def test_batches_keep_the_budget_and_the_largest_batch() -> None:
    traits = Traits(128, 256, "float32", 0, max_batch=4, buckets=Buckets(tokens=(8, 16)))
    lengths = [3, 16, 9, 8, 1, 2, 7, 5, 30]
    found = batches(lengths, traits, token_budget=32)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= 4
        assert len(batch) == 1 or len(batch) * max(traits.buckets.pad_tokens(lengths[i]) for i in batch) <= 32


def test_a_continuation_is_tokenised_in_its_context_and_cut_from_the_left() -> None:
    text = Text(BUNDLED / "model", bos_id=0, max_length=12)
    (request,), was_cut = text.continuations("The town", [" is by the river"])
    assert not was_cut
    assert text.decode(request.ids[request.first_scored :]) == " is by the river"
    (request,), was_cut = text.continuations("The town is by the river. " * 9, [" Yes"])
    assert was_cut
    assert len(request.ids) == 13
    assert request.ids[0] == 0
    assert text.decode(request.ids[request.first_scored :]) == " Yes"
