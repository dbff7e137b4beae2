"""Scores are the model's own in each dialect, however the calls are made; what is not there is refused."""

from __future__ import annotations

import random
import re

import pytest

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.requests import Failed, Scored, ScoreRequest
from tests.runtimes.server.conftest import Client, Connected
from tests.runtimes.server.fake_openai_server import GOOD, Fault, Json
from tests.runtimes.server.toy_model import ToyModel


def requests(count: int = 7) -> list[ScoreRequest]:
    source = random.Random(3)

    def some(least: int) -> tuple[int, ...]:
        return tuple(source.randrange(1, 128) for _ in range(source.randint(least, 9)))

    made = [ScoreRequest(some(3), 2, some(0)) for _ in range(count)]
    return [*made, ScoreRequest((5, 6), 1)]


def expected(request: ScoreRequest, model: ToyModel) -> Scored:
    ids = [*request.prefix, *request.ids]
    places = range(len(request.prefix) + request.first_scored, len(ids))
    return Scored(
        tuple(model.logprob(ids[:at], ids[at]) for at in places),
        tuple(model.margin(ids[:at], ids[at]) for at in places),
    )


def scores(client: Client, asked: list[ScoreRequest]) -> list[Scored | Failed]:
    pairs = list(client.runtime.score(asked))
    assert sorted(index for index, _ in pairs) == list(range(len(asked)))
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


def assert_expected(result: Scored | Failed, request: ScoreRequest, model: ToyModel) -> None:
    assert isinstance(result, Scored), result
    assert result.logprobs == pytest.approx(expected(request, model).logprobs, abs=1e-9)
    assert result.top1_margins == pytest.approx(expected(request, model).top1_margins, abs=1e-9)


@pytest.mark.parametrize("dialect", ["vllm", "legacy"])
@pytest.mark.parametrize("each", [1, 3])
def test_scores_are_the_models(kept: Connected, dialect: str, each: int) -> None:
    client = kept(dialect, requests_per_call=each)
    for request, result in zip(requests(), scores(client, requests()), strict=True):
        assert_expected(result, request, client.fake.model)
    assert [len(body["prompt"]) for body in client.fake.bodies].count(each) >= 2
    assert len(client.fake.bodies) == -(-len(requests()) // each)


def test_last_tokens_are_scored_by_the_likeliest(kept: Connected) -> None:
    client = kept("llama")
    asked = [ScoreRequest((4, 5, token), 2, (9, 8)) for token in (1, 7, 30)] + [ScoreRequest((6, 7), 1)]
    for request, result in zip(asked, scores(client, asked), strict=True):
        assert_expected(result, request, client.fake.model)
    assert len(client.fake.bodies) == 2  # one per context


def test_a_token_below_the_likeliest_is_no_score(connected: Connected) -> None:
    client = connected("llama", server={"model": ToyModel(vocabulary=8192)})
    assert client.runtime.capabilities.top_logprobs == 4096
    top = client.fake.model.top((4, 5))
    good, bad = scores(client, [ScoreRequest((4, 5, top), 2), ScoreRequest((4, 5, (top - 1) % 8192), 2)])
    assert isinstance(good, Scored)
    assert bad == Failed("the token is not among the 4096 likeliest that the server gives")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(change=lambda reply: {"choices": []}), "not among the 0 likeliest"),
        (Fault(change=lambda reply: {"choices": [7]}), "unknown form"),
        (Fault(change=lambda reply: {"error": "out of blocks"}), "out of blocks"),
        (Fault(status=400, message="too long"), "HTTP 400: too long"),
        (Fault(raw=b"{"), "not JSON"),
    ],
    ids=["no choices", "no object", "an error", "a refusal", "no JSON"],
)
def test_a_faulty_reply_fails_the_letters_of_its_question_alone(kept: Connected, fault: Fault, reason: str) -> None:
    client = kept("llama", tries=1)
    client.fake.faults = lambda number, body: fault if body["prompt"] == [4, 5] else GOOD
    first, second, good = scores(
        client, [ScoreRequest((4, 5, 1), 2), ScoreRequest((4, 5, 2), 2), ScoreRequest((6, 7), 1)]
    )
    assert isinstance(good, Scored)
    assert isinstance(first, Failed)
    assert first == second
    assert reason in first.reason


@pytest.mark.parametrize("dialect", ["llama"])
def test_longer_continuations_are_refused_without_prompt_logprobs(kept: Connected, dialect: str) -> None:
    client = kept(dialect)
    with pytest.raises(Unsupported, match="no log-probabilities of prompts"):
        list(client.runtime.score([ScoreRequest((4, 5, 6, 7), 2)]))
    assert not client.fake.bodies


def one_choice(key: str, change: object) -> Fault:
    """Return a fault that replaces a part of the first choice."""

    def changed(reply: Json) -> Json:
        reply["choices"][0][key] = change(reply["choices"][0][key]) if callable(change) else change
        return reply

    return Fault(change=changed)


def _legacy(name: str, at: int, value: object) -> Fault:
    def change(logprobs: Json) -> Json:
        logprobs[name][at] = value
        return logprobs

    return one_choice("logprobs", change)


NOT_NUMBERS = Fault(raw=b'{"choices": [{"index": 0, "prompt_logprobs": [null, {"6": {"logprob": NaN}}]}]}')
INFINITE = Fault(raw=b'{"choices": [{"index": 0, "prompt_logprobs": [null, {"6": {"logprob": -1e999}}]}]}')
SCORE_FAULTS = [
    ("vllm", NOT_NUMBERS, "the reply is not JSON"),
    ("vllm", INFINITE, "the reply is not JSON|not finite"),
    ("vllm", one_choice("prompt_logprobs", lambda rows: rows[:-1]), "gave 1 log-probabilities for a prompt of 2"),
    ("vllm", one_choice("prompt_logprobs", lambda rows: [*rows, rows[1]]), "gave 3 log-probabilities"),
    ("vllm", one_choice("prompt_logprobs", None), "gave 0 log-probabilities for a prompt of 2 tokens"),
    ("vllm", one_choice("prompt_logprobs", [None, {"77": {"logprob": -1.0}}]), "of the token 6: its tokenizer differs"),
    ("vllm", one_choice("prompt_logprobs", [None, {"6": {"logprob": None}}]), "no log-probability of the token 6"),
    ("vllm", one_choice("prompt_logprobs", [None, {"6": {"logprob": 3.5}}]), "log-probability of 3.5"),
    ("vllm", one_choice("index", 1), "answered 0 of 1 prompts"),
    ("vllm", Fault(change=lambda reply: {"object": "text"}), "unknown form"),
    ("vllm", Fault(change=lambda reply: {"choices": []}), "answered 0 of 1 prompts"),
    (
        "vllm",
        Fault(change=lambda reply: {"choices": reply["choices"] * 2}),
        "1 of 1 prompts of a call, some of them twice",
    ),
    ("vllm", Fault(change=lambda reply: {"error": {"message": "out of blocks"}}), "out of blocks"),
    ("vllm", Fault(change=lambda reply: [1, 2]), "unknown form"),
    ("vllm", Fault(status=400, message="too long"), "HTTP 400: too long"),
    ("legacy", _legacy("token_logprobs", 1, None), "left out the log-probability"),
    ("legacy", _legacy("top_logprobs", 1, {}), "left out the log-probability"),
    ("legacy", one_choice("logprobs", lambda both: {k: v[:1] for k, v in both.items()}), "gave 1 log-probabilities"),
    ("legacy", one_choice("logprobs", lambda both: {k: v * 2 for k, v in both.items()}), "gave 6 log-probabilities"),
    ("legacy", one_choice("logprobs", None), "gave 0 log-probabilities"),
]


@pytest.mark.parametrize(("dialect", "fault", "reason"), SCORE_FAULTS, ids=lambda value: str(value)[:40])
def test_a_faulty_reply_fails_its_request_alone(kept: Connected, dialect: str, fault: Fault, reason: str) -> None:
    client = kept(dialect, tries=1)
    bad = [5, 6]
    client.fake.faults = lambda number, body: fault if body["prompt"] == [bad] else GOOD
    *good, failed = scores(client, requests())
    for request, result in zip(requests(), good, strict=False):
        assert_expected(result, request, client.fake.model)
    assert isinstance(failed, Failed)
    assert "\n" not in failed.reason
    assert re.search(reason, failed.reason), failed.reason


def test_the_token_of_another_tokenizer_is_seen_in_an_echo(connected: Connected) -> None:
    """Where the server names tokens by id; elsewhere the number of tokens alone can be compared."""
    client = connected("vllm", server={"ignores": frozenset({"prompt_logprobs"})}, tries=1)

    def other(both: Json) -> Json:
        return {**both, "tokens": ["token_id:5", "token_id:9", "token_id:1"]}

    client.fake.faults = lambda number, body: one_choice("logprobs", other)
    assert scores(client, [ScoreRequest((5, 6), 1)]) == [
        Failed("the server's tokens of the prompt are others: its tokenizer differs")
    ]


def test_choices_may_come_in_any_order(kept: Connected) -> None:
    client = kept("vllm", requests_per_call=4)
    client.fake.faults = lambda number, body: Fault(change=lambda reply: {**reply, "choices": reply["choices"][::-1]})
    for request, result in zip(requests(), scores(client, requests()), strict=True):
        assert_expected(result, request, client.fake.model)


def test_a_refused_prompt_does_not_fail_those_of_its_call(connected: Connected) -> None:
    client = connected("vllm", requests_per_call=3)
    long = ScoreRequest(tuple(range(1, 120)) * 3, 5)
    asked = [*requests(), long]
    *good, failed = scores(client, asked)
    assert failed == Failed("HTTP 400: 358 tokens are more than the context of 256")
    for request, result in zip(requests(), good, strict=True):
        assert_expected(result, request, client.fake.model)


def test_scores_may_have_their_own_concurrency(kept: Connected) -> None:
    client = kept("vllm", concurrency=4, requests_per_call=3, scoring_concurrency=1)
    scores(client, requests())
    assert client.fake.most_in_flight == 1
    assert {len(body["prompt"]) for body in client.fake.bodies} == {1}
