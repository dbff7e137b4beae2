"""Continuous batching gives the texts of `generate`, whatever arrives or leaves meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.admission import Busy, Closed, Limits
from runtime_matrix.experiments.evaluation.continuous import ContinuousBatching
from runtime_matrix.experiments.evaluation.decoding import random_prompts
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.prompt_logprobs import describe_prompts
from runtime_matrix.experiments.evaluation.requests import Failed, Generated, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score, score_batches
from runtime_matrix.experiments.evaluation.speculation import Lookup
from runtime_matrix.experiments.evaluation.watching import Progress, held
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.requests import Usage
from tests.experiments.evaluation.test_core import mixed_requests, words

WAIT_S = 60.0


class Seen:
    """Keeps the events of a request."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}
        self.texts: dict[int, str] = {}
        self.likeliest: list[TokenLogprobs] = []
        self.results: dict[int, Generated] = {}
        self.failure: Failed | None = None
        self.events = 0
        self._has_ended, self._has_tokens = threading.Event(), threading.Event()

    def on_start(self, at_s: float) -> None:
        assert not self.ids

    def on_progress(self, progress: Progress) -> None:
        self.events += 1
        self.ids.setdefault(progress.sample, []).extend(progress.ids)
        self.texts[progress.sample] = self.texts.get(progress.sample, "") + progress.text
        self.likeliest += progress.likeliest
        if progress.result is not None:
            self.results[progress.sample] = progress.result
        self._has_tokens.set()

    def on_end(self, failure: Failed | None, at_s: float) -> None:
        assert not self._has_ended.is_set()
        self.failure = failure
        self._has_ended.set()

    def wait(self) -> list[Generated]:
        assert self._has_ended.wait(WAIT_S)
        return [self.results[sample] for sample in sorted(self.results)]

    def wait_for_tokens(self) -> None:
        assert self._has_tokens.wait(WAIT_S)


@pytest.fixture(scope="module")
def eager(tiny_model: Path, artifacts: Path) -> tuple[Runtime, Traits]:
    runtime = Eager()
    return runtime, runtime.load(
        ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda _: nullcontext()
    )


@contextmanager
def batching(
    loaded: tuple[Runtime, Traits], limits: Limits | None = None, **options: Any
) -> Iterator[ContinuousBatching]:
    scheduler = ContinuousBatching(*loaded, options.pop("new_text", words), limits=limits, **options)
    try:
        yield scheduler
    finally:
        scheduler.close()


def fake(**options: Any) -> tuple[Runtime, Traits]:
    runtime = Fake(**options)
    return runtime, runtime.load(ModelSource("fake"), Hardware("cpu", 1), lambda _: nullcontext())


@pytest.mark.parametrize(
    "limits", [Limits(4), Limits(1), Limits(64), Limits(4, one_at_a_time=True)], ids=["4", "1", "64", "lock"]
)
def test_texts_are_those_of_generate(eager: tuple[Runtime, Traits], limits: Limits) -> None:
    requests = mixed_requests()
    requests.append(GenerateRequest((5, 6, 7, 8), 12, temperature=1.0, seeds=(1, 2, 3)))
    with batching(eager, limits) as scheduler:
        seen = [Seen() for _ in requests]
        for request, watcher in zip(requests, seen, strict=True):  # arrive while others run
            scheduler.submit([request], [watcher])
        found = [watcher.wait() for watcher in seen]
        counts = scheduler.counts
    assert found == generate(*eager, requests, words)
    for watcher in seen:
        assert watcher.failure is None
        for sample, result in watcher.results.items():
            assert tuple(watcher.ids[sample]) == result.ids
            assert watcher.texts[sample] == result.text
    assert counts.new_tokens == sum(len(text.ids) for texts in found for text in texts)
    assert counts.prompt_tokens == sum(len(request.ids) for request in requests)
    assert (counts.finished, counts.admitted) == (len(requests) + 2, 0)
    assert (counts.steps > 150) is (limits.max_batch == 1 or limits.one_at_a_time)  # otherwise rows share steps


def test_a_longer_request_makes_the_cache_grow(eager: tuple[Runtime, Traits]) -> None:
    short, long = GenerateRequest((5, 6, 7), 60), GenerateRequest(tuple(range(8, 108)), 80)
    with batching(eager) as scheduler:
        first, second = Seen(), Seen()
        scheduler.submit([short], [first])
        first.wait_for_tokens()
        scheduler.submit([long], [second])
        found = [first.wait(), second.wait()]
    assert found == generate(*eager, [short, long], words)


def test_each_token_is_told_when_it_is_known(eager: tuple[Runtime, Traits]) -> None:
    with batching(eager) as scheduler:
        seen = Seen()
        scheduler.submit([GenerateRequest((5, 6, 7), 9)], [seen])
        seen.wait()
    assert seen.events == 9


def test_a_stop_string_is_never_told() -> None:
    request = GenerateRequest((10,), 30, ("13 14 15",))
    with batching(fake()) as scheduler:
        seen = Seen()
        scheduler.submit([request], [seen])
        (result,) = seen.wait()
    assert (seen.texts[0], result.finished_by) == ("11 12 ", "stop")
    assert tuple(seen.ids[0]) == result.ids == (11, 12, 13, 14, 15)


def test_the_beginning_of_a_stop_string_is_held() -> None:
    assert held("one two", ("two three",)) == 3
    assert held("one two", ("x", "o t", "o")) == 1
    assert held("abab", ("abac",)) == 2
    assert held("", ("a",)) == held("text", ()) == 0


def test_a_cancelled_request_frees_its_row() -> None:
    with batching(fake(token_s=0.005, max_length=100_000), Limits(1)) as scheduler:
        first, second = Seen(), Seen()
        (stream,) = scheduler.submit([GenerateRequest((10,), 50_000)], [first])
        scheduler.submit([GenerateRequest((20,), 3)], [second])
        first.wait_for_tokens()
        assert not second.ids
        stream.cancel()
        assert second.wait()[0].ids == (21, 22, 23)
        first.wait()
        assert first.failure == Failed("cancelled", is_cancelled=True)
        stream.cancel()  # twice does nothing
        counts = scheduler.counts
        assert (counts.cancelled, counts.admitted, counts.finished) == (1, 0, 1)


def test_a_waiting_request_can_be_cancelled_behind_a_lock() -> None:
    with batching(fake(token_s=0.005, max_length=100_000), Limits(one_at_a_time=True)) as scheduler:
        first, second = Seen(), Seen()
        (running,) = scheduler.submit([GenerateRequest((10,), 50_000)], [first])
        (waiting,) = scheduler.submit([GenerateRequest((20,), 3)], [second])
        first.wait_for_tokens()
        waiting.cancel()
        second.wait()
        assert second.failure is not None
        assert second.failure.is_cancelled
        assert not second.ids
        running.cancel()
        first.wait()


def test_requests_beyond_the_limit_are_refused_together() -> None:
    with batching(fake(token_s=0.005, max_length=100_000), Limits(2, max_requests=3)) as scheduler:
        first = Seen()
        (stream,) = scheduler.submit([GenerateRequest((10,), 50_000, temperature=1.0, seeds=(1, 2))], [first])
        with pytest.raises(Busy, match="2 requests wait or run and 2 more exceed the limit of 3"):
            scheduler.submit([GenerateRequest((20,), 3), GenerateRequest((30,), 3)], [Seen(), Seen()])
        with pytest.raises(Busy):
            scheduler.work(lambda: iter(()), 2)
        last = Seen()
        scheduler.submit([GenerateRequest((20,), 3)], [last])
        stream.cancel()
        assert last.wait()[0].ids == (21, 22, 23)
        assert scheduler.counts.refused == 4


def test_an_error_of_the_runtime_ends_the_requests_and_not_the_scheduler() -> None:
    with batching(fake(fault="not_finite")) as scheduler:
        for _ in range(2):
            seen = Seen()
            scheduler.submit([GenerateRequest((10,), 5)], [seen])
            seen.wait()
            assert seen.failure is not None
            assert seen.failure.reason.startswith("FloatingPointError: the runtime's logits are not finite (NaN)")
        assert scheduler.is_alive
        assert (scheduler.counts.failed, scheduler.counts.admitted) == (2, 0)


def test_scores_are_computed_between_steps(eager: tuple[Runtime, Traits]) -> None:
    requests = [ScoreRequest(tuple(prompt), 3) for prompt in random_prompts(6, 12, 128, 1)]
    options = ScoringConfig(token_budget=24)  # several batches
    text = GenerateRequest((5, 6, 7), 40)
    with batching(eager) as scheduler:
        seen = Seen()
        scheduler.submit([text], [seen])
        parts = scheduler.work(lambda: score_batches(*eager, requests, options, Tally()), 6).result(WAIT_S)
        assert seen.wait() == generate(*eager, [text], words)[0]
        assert len(parts) > 1
        found = {index: result for part in parts for index, result in part}
        assert [found[index] for index in range(6)] == score(*eager, requests, options)
        with pytest.raises(ZeroDivisionError):
            scheduler.work(lambda: iter(1 // zero for zero in (0,)), 1).result(WAIT_S)
        assert (scheduler.counts.failed, scheduler.counts.admitted) == (1, 0)


def test_close_cancels_what_runs() -> None:
    scheduler = ContinuousBatching(*fake(token_s=0.005, max_length=100_000), words)
    first, second = Seen(), Seen()
    scheduler.submit([GenerateRequest((10,), 50_000)], [first])
    first.wait_for_tokens()
    scheduler.submit([GenerateRequest((10,), 50_000)], [second])
    scheduler.close()
    for seen in (first, second):
        seen.wait()
        assert seen.failure == Failed("the server is stopping", is_cancelled=True)
    assert not scheduler.is_alive
    with pytest.raises(Closed):
        scheduler.submit([GenerateRequest((10,), 3)], [Seen()])


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.end: tuple[Generated | Failed, Usage] | None = None
        self.has_ended = threading.Event()

    def on_start(self, at_s: float) -> None:
        pass

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        self.ids += ids

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        self.end = result, usage
        self.has_ended.set()


def test_a_listener_is_told_as_by_a_server(eager: tuple[Runtime, Traits]) -> None:
    request, heard = GenerateRequest((5, 6, 7), 9), Heard()
    with batching(eager) as scheduler:
        scheduler.start(request, heard)
        assert heard.has_ended.wait(WAIT_S)
    ((expected,),) = generate(*eager, [request], words)
    assert heard.end == (expected, Usage(3, 9, 0))
    assert tuple(heard.ids) == expected.ids


@pytest.mark.parametrize("speculates", [False, True])
def test_log_probabilities_are_those_of_scoring(eager: tuple[Runtime, Traits], speculates: bool) -> None:
    prompt = (5, 6, 7)
    drafter = Lookup(4) if speculates else None
    with batching(eager, options=GenerationConfig(host_sync_interval=4), drafter=drafter) as scheduler:
        seen = Seen()
        scheduler.submit([GenerateRequest(prompt, 12)], [seen], alternatives=3)
        ((text,),) = [seen.wait()]
    (scored,) = score(*eager, [ScoreRequest((*prompt, *text.ids), 3)])
    assert [row.id for row in seen.likeliest] == list(text.ids)
    assert [row.logprob for row in seen.likeliest] == pytest.approx(scored.logprobs, abs=1e-5)
    for row in seen.likeliest:  # greedy
        assert (row.rank, len(row.likeliest)) == (1, 3)
        assert row.likeliest[0] == (row.id, row.logprob)


@pytest.mark.parametrize("most", [1 << 26, 128 * 7])
def test_prompts_are_described_as_they_are_scored(
    eager: tuple[Runtime, Traits], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_matrix.experiments.evaluation.prompt_logprobs._MOST_LOGITS", most)
    prompts = [prompt[:length] for prompt, length in zip(random_prompts(4, 30, 128, 3), (30, 1, 6, 17), strict=True)]
    found = {index: rows for part in describe_prompts(*eager, prompts, 2) for index, rows in part}
    assert found[1] == []
    for index in (0, 2, 3):
        (scored,) = score(*eager, [ScoreRequest(tuple(prompts[index]), 1)])
        assert [row.id for row in found[index]] == prompts[index][1:]
        assert [row.logprob for row in found[index]] == pytest.approx(scored.logprobs, abs=1e-5)
        margins = [row.likeliest[0][1] - row.logprob for row in found[index]]
        assert margins == pytest.approx(scored.top1_margins, abs=1e-5)
        assert all((row.rank == 1) == (margin == 0) for row, margin in zip(found[index], margins, strict=True))


def test_work_that_nobody_waits_for_ends_before_its_next_part() -> None:
    begun, goes_on, parts = threading.Event(), threading.Event(), []

    def work() -> Iterator[int]:
        for part in range(3):
            parts.append(part)
            begun.set()
            assert goes_on.wait(WAIT_S)
            yield part

    with batching(fake(), Limits(max_requests=2)) as scheduler:
        result = scheduler.work(work, 2)
        assert begun.wait(WAIT_S)
        assert result.cancel()
        goes_on.set()
        seen = Seen()
        wait_for_room(scheduler)
        scheduler.submit([GenerateRequest((10,), 2)], [seen])
        assert seen.wait()[0].ids == (11, 12)
        assert parts == [0]
        assert (scheduler.counts.cancelled, scheduler.counts.admitted) == (2, 0)


def wait_for_room(scheduler: ContinuousBatching) -> None:
    deadline = time.monotonic() + WAIT_S
    while scheduler.counts.admitted:
        assert time.monotonic() < deadline
        time.sleep(0.001)
