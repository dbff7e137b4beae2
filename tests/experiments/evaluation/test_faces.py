"""Both kinds of engines behind one face: steps that are timed, texts as this project ends them, and failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.arriving_tokens import RequestFailed
from runtime_matrix.experiments.evaluation.faces import Decoded, Steps, WholeRequests, face_of
from runtime_matrix.experiments.evaluation.generation import GenerationReport
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.requests import (
    Capabilities,
    Failed,
    Generated,
    GenerateRequest,
    Listener,
    RequestRuntime,
    Results,
    Scored,
    ScoreRequest,
    Stream,
    Usage,
)

EOS = 9
TRAITS = Traits(16, 64, "float32", None, is_scripted=True)


class FakeStream:
    """Notes that it was cancelled."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeRequests(RequestRuntime):
    """A scripted engine: `texts` are its results by request, and a test calls the listeners of what was started."""

    def __init__(self, texts: Mapping[int, Generated | Failed] | None = None, **capabilities: Any):
        self.texts, self.has_ended = dict(texts or {}), False
        self.asked: list[GenerateRequest] = []
        self.listeners: list[Listener] = []
        self.streams: list[FakeStream] = []
        self.most = 99  # that may be started
        self._capabilities = Capabilities(**capabilities)

    @property
    @override
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @override
    def load(self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Any = ()) -> Traits:
        return TRAITS

    @override
    def close(self) -> None:
        """Nothing is open."""

    @override
    def score(self, requests: Sequence[ScoreRequest]) -> Results[tuple[int, Scored | Failed]]:
        if not self.capabilities.prompt_logprobs:
            raise Unsupported("no log-probabilities")
        try:
            for index in reversed(range(len(requests))):
                yield index, Scored((-float(index),), (0.0,)) if index else Failed("first")
        finally:
            self.has_ended = True

    @override
    def generate(self, requests: Sequence[GenerateRequest]) -> Results[tuple[int, int, Generated | Failed]]:
        try:
            for index, text in self.texts.items():
                yield index, 0, text
        finally:
            self.has_ended = True

    @override
    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        if len(self.listeners) == self.most:
            raise RuntimeError("no more")
        self.asked.append(request)
        self.listeners.append(listener)
        self.streams.append(FakeStream())
        return self.streams[-1]


def decoded(
    runtime: FakeRequests, new_tokens: int, events: Sequence[Callable[[], None]], rows: int = 2
) -> tuple[list[list[int]], list[int]]:
    """Return the tokens and, per step, how many events had happened; each event follows a step, the first a start."""
    waiting, seen, steps = iter(events), [0], list[int]()

    def step() -> None:
        steps.append(seen[0])
        _next()

    def _next() -> None:
        for event in waiting:
            seen[0] += 1
            event()
            return

    original = runtime.start

    def start(request: GenerateRequest, listener: Listener) -> Stream:
        stream = original(request, listener)
        if len(runtime.listeners) == rows:
            _next()
        return stream

    runtime.start = start  # type: ignore[method-assign]
    prompts = [[row, row + 1] for row in range(rows)]
    return WholeRequests(runtime).decode(prompts, new_tokens, step).tokens, steps


def tokens(runtime: FakeRequests, *by_row: Sequence[int]) -> Callable[[], None]:
    """Return an event: tokens arrive, those of a row together."""

    def arrive() -> None:
        for listener, ids in zip(runtime.listeners, by_row, strict=True):
            if ids:
                listener.on_tokens(ids, 0.0)

    return arrive


def ends(runtime: FakeRequests, *results: Generated | Failed | None) -> Callable[[], None]:
    """Return an event: the rows end, but those with None."""

    def end() -> None:
        for listener, result in zip(runtime.listeners, results, strict=True):
            if result is not None:
                listener.on_end(result, Usage(), 0.0)

    return end


def both(*events: Callable[[], None]) -> Callable[[], None]:
    def happen() -> None:
        for event in events:
            event()

    return happen


DONE = Generated((), "", "length")


def test_a_step_is_over_when_all_rows_have_their_token() -> None:
    runtime = FakeRequests()
    events = [
        tokens(runtime, [3], [4]),
        both(tokens(runtime, [5, 6], []), tokens(runtime, [], [7])),
        both(tokens(runtime, [], [8]), ends(runtime, DONE, DONE)),
    ]
    assert decoded(runtime, 3, events) == ([[3, 5, 6], [4, 7, 8]], [1, 2, 3])
    assert [(request.ids, request.max_new_tokens, request.ignore_eos) for request in runtime.asked] == [
        ((0, 1), 3, True),
        ((1, 2), 3, True),
    ]
    assert not any(stream.is_cancelled for stream in runtime.streams)


def test_tokens_that_arrive_together_are_steps_without_time_between() -> None:
    runtime = FakeRequests()
    events = [both(tokens(runtime, [1, 2, 3, 4], [5, 6, 7, 8]), ends(runtime, DONE, DONE))]
    assert decoded(runtime, 4, events) == ([[1, 2, 3, 4], [5, 6, 7, 8]], [1, 1, 1, 1])


def test_a_step_s_time_is_that_of_its_last_row() -> None:
    """Tokens of a row that arrive together share the time since its tokens before."""
    runtime = FakeRequests()

    def arrive() -> None:
        first, second = runtime.listeners
        for listener, ids, at_s in [(first, [1], 1.0), (second, [5], 1.5), (first, [2, 3], 4.0), (second, [6], 2.0),
                                    (second, [7], 6.0)]:  # fmt: skip
            listener.on_tokens(ids, at_s)
        ends(runtime, DONE, DONE)()

    original = runtime.start

    def start(request: GenerateRequest, listener: Listener) -> Stream:
        stream = original(request, listener)
        if len(runtime.listeners) == 2:
            arrive()
        return stream

    runtime.start = start  # type: ignore[method-assign]
    assert WholeRequests(runtime).decode([[1], [2]], 3) == Decoded([[1, 2, 3], [5, 6, 7]], [1.5, 2.5, 6.0])


def test_arrivals_from_other_threads_are_waited_for() -> None:
    runtime = FakeRequests()

    def serve() -> None:
        tokens(runtime, [1, 2], [])()
        tokens(runtime, [], [3])()
        both(tokens(runtime, [], [4]), ends(runtime, DONE, DONE))()

    thread = threading.Thread(target=serve)
    assert decoded(runtime, 2, [thread.start])[0] == [[1, 2], [3, 4]]
    thread.join()


FAILING = [
    (lambda runtime: ends(runtime, Failed("broken"), None), "broken"),
    (lambda runtime: ends(runtime, None, DONE), "a timed text ended after 1 of 3 tokens"),
    (
        lambda runtime: both(tokens(runtime, [1] * 9, [1] * 2), ends(runtime, DONE, DONE)),
        "the server sent 10 tokens, 3 were asked for",
    ),
    (lambda runtime: both(tokens(runtime, [1] * 2, [1] * 2), ends(runtime, DONE, Failed("late"))), "late"),
]


@pytest.mark.parametrize(("second", "reason"), FAILING, ids=[reason for _, reason in FAILING])
def test_a_timed_text_that_fails_frees_the_others(second: Any, reason: str) -> None:
    runtime = FakeRequests()
    with pytest.raises(RequestFailed) as raised:
        decoded(runtime, 3, [tokens(runtime, [1], [2]), second(runtime)])
    assert str(raised.value) == reason
    assert all(stream.is_cancelled for stream in runtime.streams)


def test_a_start_that_fails_frees_what_was_started() -> None:
    runtime = FakeRequests()
    runtime.most = 1
    with pytest.raises(RuntimeError, match="no more"):
        WholeRequests(runtime).decode([[1], [2]], 3)
    assert [stream.is_cancelled for stream in runtime.streams] == [True]


@pytest.mark.parametrize("name", ["returns_ids", "streams"])
def test_tokens_that_cannot_be_told_apart_are_not_timed(name: str) -> None:
    missing: Any = {name: False}
    runtime = FakeRequests(reasons={name: "the server does not"}, **missing)
    with pytest.raises(Unsupported, match="tokens cannot be timed: the server does not"):
        WholeRequests(runtime).decode([[1]], 3)
    assert not runtime.asked


@pytest.mark.parametrize(("end", "banned"), [("ignored", set()), ("banned", {EOS, 3}), ("ends", {EOS, 3})])
def test_the_tokens_that_may_be_left_out(end: Any, banned: set[int]) -> None:
    assert WholeRequests(FakeRequests(end_of_text=end)).banned([EOS, 3]) == banned


def written(text: Generated, request: GenerateRequest, **capabilities: Any) -> Generated | Failed:
    found: dict[int, Generated | Failed] = {}
    report = GenerationReport()
    WholeRequests(FakeRequests({0: text}, **capabilities)).generate(
        [request],
        lambda ids: lambda token: f"<{token}>",
        (EOS,),
        GenerationConfig(),
        lambda index, sample, result: found.update({index: result}),
        report,
    )
    assert set(report.figures().values()) == {None}  # the engine does not tell
    return found[0]


ASKED = GenerateRequest((1,), 4, stop=("<5>", "<6>"))
ENDINGS = [
    ("at the end of text", Generated((2, 3, EOS), "", "eos"), ASKED, Generated((2, 3), "<2><3>", "eos")),
    ("without its token", Generated((2, 3), "", "eos"), ASKED, Generated((2, 3), "<2><3>", "eos")),
    ("which is ignored", Generated((2, EOS, 3, 4), "", "length"), replace(ASKED, ignore_eos=True),
     Generated((2, EOS, 3, 4), "<2><9><3><4>", "length")),
    ("at a stop string", Generated((2, 5), "<2>", "stop"), ASKED, Generated((2, 5), "<2>", "stop")),
    ("at the first", Generated((2, 6, 5, 3), "", "length"), ASKED, Generated((2, 6), "<2>", "stop")),
    ("at a length", Generated((2, 3, 4, 7), "", "length"), ASKED, Generated((2, 3, 4, 7), "<2><3><4><7>", "length")),
    ("too early", Generated((2, 3), "", "length"), ASKED, Failed("the text has 2 of 4 tokens and no end")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "asked", "expected"), [case[1:] for case in ENDINGS], ids=[c[0] for c in ENDINGS])
def test_texts_end_as_everywhere(text: Generated, asked: GenerateRequest, expected: Generated | Failed) -> None:
    assert written(text, asked) == expected


def test_without_ids_the_stop_string_is_cut_off_the_text() -> None:
    assert written(Generated((), "ab<6>c<5>", "stop"), ASKED, returns_ids=False) == Generated((), "ab", "stop")
    plain = Generated((), "abc", "length")
    assert written(plain, ASKED, returns_ids=False) == plain


def test_a_listener_that_gives_up_ends_the_others() -> None:
    runtime = FakeRequests({0: DONE, 1: DONE})

    def give_up(index: int, sample: int, result: Generated | Failed) -> None:
        raise RequestFailed("enough")

    with pytest.raises(RequestFailed) as raised:
        WholeRequests(runtime).generate(
            [ASKED] * 2, lambda ids: str, (), GenerationConfig(), give_up, GenerationReport()
        )
    assert runtime.has_ended, raised  # while the traceback still holds its frames


def test_scores_come_as_they_are_known() -> None:
    runtime, tally = FakeRequests(), Tally()
    requests = [ScoreRequest((1, 2, 3), 1, (4, 5)), ScoreRequest((1, 2), 1)]
    found = list(WholeRequests(runtime).score(requests, ScoringConfig(), tally))
    assert found == [[(1, Scored((-1.0,), (0.0,)))], [(0, Failed("first"))]]
    assert tally.asked_tokens == 4 + 1
    assert tally.figures()["run_tokens"] is None
    begun = WholeRequests(runtime := FakeRequests()).score(requests, ScoringConfig(), tally)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert runtime.has_ended


def test_missing_scores_are_refused_before_the_first() -> None:
    with pytest.raises(Unsupported, match="no log-probabilities"):
        next(WholeRequests(FakeRequests(prompt_logprobs=False)).score([], ScoringConfig(), Tally()))


def test_an_engine_of_steps_has_the_same_face() -> None:
    with Fake(vocabulary=16) as runtime:
        traits = runtime.load(ModelSource("none"), Hardware("cpu", 1), lambda name: nullcontext())
        face, steps = face_of(runtime, traits), list[int]()
        assert isinstance(face, Steps)
        assert face.decode([[1, 7], [3, 4]], 3, lambda: steps.append(1)) == Decoded([[8, 9, 10], [5, 6, 7]])
        assert len(steps) == 3
        assert face.banned([EOS]) == frozenset()
        texts: dict[int, Any] = {}
        requests = [GenerateRequest((1, 7), 4), GenerateRequest((1, 7), 4, ignore_eos=True)]
        face.generate(
            requests,
            lambda ids: str,
            (EOS,),
            GenerationConfig(),
            lambda index, sample, result: texts.update({index: result}),
            GenerationReport(),
        )
        assert texts == {0: Generated((8,), "8", "eos"), 1: Generated((8, 9, 10, 11), "891011", "length")}
        scored = dict(
            pair for batch in face.score([ScoreRequest((1, 2, 5), 1)], ScoringConfig(), Tally()) for pair in batch
        )
        (result,) = scored.values()
        assert isinstance(result, Scored)
        assert result.top1_margins == pytest.approx((0.0, 10.0))
        face.synchronize()


def test_whole_requests_have_their_own() -> None:
    face = face_of(FakeRequests(), TRAITS)
    assert isinstance(face, WholeRequests)
    face.synchronize()
