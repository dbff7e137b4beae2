"""Scores are the same however requests are batched and whatever they share; with `exact` to the last bit."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import chunks, score
from runtime_matrix.runtimes.base import Buckets, Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime

LoadedRuntime = tuple[Runtime, Traits]


@pytest.fixture(scope="module")
def eager(tiny_model: Path, artifacts: Path) -> LoadedRuntime:
    runtime = Eager()
    return runtime, runtime.load(
        ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda _: nullcontext()
    )


@pytest.fixture(scope="module")
def graph(tiny_model: Path, artifacts: Path) -> LoadedRuntime:
    runtime = OnnxRuntime()
    return runtime, runtime.load(
        ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda _: nullcontext()
    )


@pytest.fixture(params=[("eager", True), ("eager", False), ("graph", True), ("graph", False)], ids=str)
def loaded(request: pytest.FixtureRequest) -> LoadedRuntime:
    """Return a runtime that reads a prefix in place, and the same one when it must copy it for each row."""
    name, in_place = request.param
    runtime, traits = request.getfixturevalue(name)
    return runtime, replace(traits, shares_prefix=in_place, packs_rows=in_place)


def questions(subjects: int = 3, each: int = 7, seed: int = 0) -> list[ScoreRequest]:
    """Prefixes of 40 tokens, stems of 3 to 20, four continuations of 1 to 6."""
    drawn = random.Random(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(3, 128) for _ in range(count))

    made = []
    for _ in range(subjects):
        prefix = some(40)
        for _ in range(each):
            stem = some(drawn.randint(3, 20))
            made += [ScoreRequest((*stem, *some(drawn.randint(1, 6))), len(stem), prefix) for _ in range(4)]
    return made


def whole(requests: list[ScoreRequest]) -> list[ScoreRequest]:
    return [ScoreRequest(one.prefix + one.ids, one.first_scored + len(one.prefix)) for one in requests]


def assert_same(found: list[Scored], expected: list[Scored]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert one.top1_margins == pytest.approx(other.top1_margins, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"share_question": False},
        {"share_prefix": False},
        {"batch": False},
        {"sort_by_length": False},
        {"token_budget": 50},
        {"cache_budget": 150},
        {"rows_by_length": {"8": 5, "20": 2}},
        {"batch_invariant": True},
    ],
    ids=str,
)
def test_no_switch_changes_a_score(loaded: LoadedRuntime, options: dict[str, Any]) -> None:
    requests = questions()
    plain = ScoringConfig(share_prefix=False, share_question=False, batch=False)
    expected = score(*loaded, whole(requests), plain)
    assert_same(score(*loaded, requests, ScoringConfig(**options)), expected)


def test_shared_tokens_are_run_once(loaded: LoadedRuntime) -> None:
    requests, tally = questions(), Tally()
    score(*loaded, requests, ScoringConfig(), tally)
    stems = {(one.prefix, one.ids[: one.first_scored]) for one in requests}
    needed = 3 * 40 + sum(len(stem) for _, stem in stems)
    needed += sum(len(one.ids) - one.first_scored - 1 for one in requests)
    assert tally.run_tokens == needed
    assert tally.prefixes == 3
    assert tally.asked_tokens == sum(len(one.prefix) + len(one.ids) - 1 for one in requests)


def test_packed_rows_have_no_padding(eager: LoadedRuntime) -> None:
    requests = [replace(one, ids=one.ids[: one.first_scored + 1]) for one in questions()]
    tally = Tally()
    score(*eager, requests, ScoringConfig(), tally)
    assert tally.figures()["padding_ratio"] == 0.0


def test_a_prefix_is_shared_only_where_that_saves_tokens(eager: LoadedRuntime) -> None:
    runtime, traits = eager
    coarse = replace(traits, buckets=Buckets(tokens=(64, 128)), shares_prefix=False, packs_rows=False)
    requests, tally = questions(1, 1)[:1], Tally()
    score(runtime, coarse, requests, ScoringConfig(), tally)
    assert tally.prefixes == 0


@pytest.mark.parametrize("options", [{}, {"token_budget": 30}, {"sort_by_length": False, "batch": False}], ids=str)
def test_batch_invariant_scores_do_not_depend_on_other_options(
    loaded: LoadedRuntime, options: dict[str, bool | int]
) -> None:
    requests = questions()
    exact = ScoringConfig(batch_invariant=True)
    expected = score(*loaded, requests, exact)
    assert score(*loaded, requests, replace(exact, **options)) == expected  # type: ignore[arg-type]
    order = list(range(0, len(requests), 4))
    random.Random(1).shuffle(order)
    shuffled = [at for start in order for at in range(start, start + 4)]
    found = score(*loaded, [requests[at] for at in shuffled], exact)
    assert found == [expected[at] for at in shuffled]
    assert score(*loaded, requests[:4], exact) == expected[:4]


def test_chunks_keep_requests_with_the_same_context_together() -> None:
    requests = questions(2, 5)
    cut = list(chunks(requests, 6))
    assert [one for chunk in cut for one in chunk] == requests
    assert all(len(chunk) in (8, 4) for chunk in cut)


def test_banned_tokens_are_no_rivals(loaded: LoadedRuntime) -> None:
    """A margin is to the top token among the others; a banned token itself competes with all."""
    stem = (5, 9, 3)
    every = [ScoreRequest((*stem, token), 3) for token in range(128)]
    plain = [result.top1_margins[0] for result in score(*loaded, every)]
    ranked = sorted(range(128), key=lambda token: plain[token])
    banned = {ranked[0], ranked[1], ranked[40]}
    found = score(*loaded, every, banned=banned)
    for token, result in enumerate(found):
        expected = plain[token] if token in banned else plain[token] - plain[ranked[2]]
        assert result.top1_margins == pytest.approx((expected,), abs=1e-5)
        assert result.top1_margins[0] >= 0
    assert found[ranked[2]].top1_margins == (0.0,)
    assert_same([replace(one, top1_margins=(margin,)) for one, margin in zip(found, plain, strict=True)],
                score(*loaded, every))  # fmt: skip
