"""Texts are the model's own in each dialect, with and without streams; what cannot be trusted is a failure."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from runtime_matrix.runtimes.base import ModelSource, Unsupported
from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest
from tests.runtimes.server.conftest import Client, Connected
from tests.runtimes.server.fake_openai_server import GOOD, Fault, Json
from tests.runtimes.server.toy_model import ToyModel

Texts = dict[tuple[int, int], Generated | Failed]
PROMPTS = [(9, 4, 7), (11, 3), (2, 8, 1, 6), (40, 41), (77, 5, 3)]


def texts(client: Client, asked: list[GenerateRequest]) -> Texts:
    triples = list(client.runtime.generate(asked))
    found = {(index, sample): result for index, sample, result in triples}
    assert len(found) == len(triples) == sum(len(request.seeds) for request in asked)
    return found


def greedy(tokens: int = 12, **options: Any) -> list[GenerateRequest]:
    return [GenerateRequest(ids, tokens, **options) for ids in PROMPTS]


@pytest.mark.parametrize("dialect", ["vllm", "llama"])
@pytest.mark.parametrize("options", [{}, {"requests_per_call": 3}, {"streaming": True}], ids=str)
def test_texts_are_the_models(kept: Connected, dialect: str, options: Json) -> None:
    client = kept(dialect, **options)
    asked = greedy(60)
    for (index, _), result in texts(client, asked).items():
        new, has_ended = client.fake.model.text(asked[index].ids, 60)
        assert isinstance(result, Generated)
        assert list(result.ids) == new
        assert result.finished_by == ("eos" if has_ended else "length")
    calls = -(-len(PROMPTS) // options.get("requests_per_call", 1))
    assert len(client.fake.bodies) == calls


def test_some_texts_end_by_themselves_and_some_by_their_length() -> None:
    ends = {ToyModel().text(ids, 60)[1] for ids in PROMPTS}
    assert ends == {True, False}


def test_without_ids_the_text_alone_is_returned(kept: Connected) -> None:
    client = kept("legacy")
    for (index, _), result in texts(client, greedy(5)).items():
        new, _ = client.fake.model.text(PROMPTS[index], 5)
        assert result == Generated((), client.fake.words(new), "length")


@pytest.mark.parametrize("each", [1, 2])
def test_prompts_are_sent_as_text_where_ids_are_refused(
    connected: Connected, bundled: tuple[ModelSource, Any], each: int
) -> None:
    source, tokenizer = bundled
    served = {"tokenizer": tokenizer, "model": ToyModel(2048), "max_length": None}
    client = connected("text", source, server=served, requests_per_call=each)
    text = tuple(tokenizer.encode("Once upon a time").ids)
    no_text = (5, 1999, 3, 2)  # ids that no text gives
    found = texts(client, [GenerateRequest(no_text, 4), GenerateRequest(text, 4), GenerateRequest(text, 5)])
    failed, good, other = (found[index, 0] for index in range(3))
    assert failed == Failed("the prompt's ids are not those of its text, and it must be sent as text")
    assert isinstance(good, Generated)
    assert isinstance(other, Generated)
    assert [body["prompt"] for body in client.fake.bodies] == ["Once upon a time"] * 2  # neither is failed by the other


def test_the_same_failure_ends_a_stream(connected: Connected, bundled: tuple[ModelSource, Any]) -> None:
    source, tokenizer = bundled
    served = {"tokenizer": tokenizer, "model": ToyModel(2048), "max_length": None}
    client = connected("text", source, server=served, streaming=True)
    (result,) = texts(client, [GenerateRequest((5, 1999, 3, 2), 4)]).values()
    assert isinstance(result, Failed)


@pytest.mark.parametrize("streaming", [False, True])
def test_seeds_give_samples(kept: Connected, streaming: bool) -> None:
    client = kept("vllm", streaming=streaming)
    asked = [GenerateRequest((9, 4), 6, temperature=0.7, top_p=0.9, seeds=(3, 2**40 + 4, 3))]
    found = texts(client, asked)
    for sample, seed in enumerate(asked[0].seeds):
        result = found[0, sample]
        assert isinstance(result, Generated)
        assert list(result.ids) == client.fake.model.text((9, 4), 6, seed=seed % 2**31)[0]
    assert found[0, 0] == found[0, 2] != found[0, 1]
    body = client.fake.bodies[0]
    assert (body["temperature"], body["top_p"], body["repetition_penalty"]) == (0.7, 0.9, 1.0)


def test_prompts_share_a_call_with_equal_options_alone(connected: Connected) -> None:
    client = connected("vllm", requests_per_call=8)
    asked = [
        *greedy(4),
        *greedy(5),
        *greedy(4, ignore_eos=True),
        *[GenerateRequest(ids, 4, temperature=1.0, seeds=(1, 2)) for ids in PROMPTS[:2]],
    ]
    found = texts(client, asked)
    assert all(isinstance(result, Generated) for result in found.values())
    assert sorted(len(body["prompt"]) for body in client.fake.bodies) == [2, 2, 5, 5, 5]


def test_samples_are_refused_where_seeds_are_ignored(connected: Connected) -> None:
    client = connected("vllm", server={"ignores": frozenset({"seed"})})
    with pytest.raises(Unsupported, match="equal seeds gave different samples"):
        texts(client, [GenerateRequest((9, 4), 6, temperature=0.7)])
    assert isinstance(texts(client, greedy(3))[0, 0], Generated)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", ["vllm", "llama", "legacy"])
def test_stop_strings_end_texts(kept: Connected, dialect: str, streaming: bool) -> None:
    client = kept(dialect, streaming=streaming)
    new, _ = client.fake.model.text((11, 3), 6)
    stop = f" {new[3]}"
    (result,) = texts(client, [GenerateRequest((11, 3), 6, stop=(stop, "never"))]).values()
    assert isinstance(result, Generated)
    assert result.finished_by == "stop"
    assert list(result.ids) == ([] if dialect == "legacy" else new[:4])
    assert client.fake.bodies[0]["stop"] == [stop, "never"]


@pytest.mark.parametrize("dialect", ["vllm", "llama"])
def test_the_end_of_text_is_ignored_on_demand(kept: Connected, dialect: str) -> None:
    client = kept(dialect)
    ids = next(ids for ids in PROMPTS if client.fake.model.text(ids, 60)[1])
    (result,) = texts(client, [GenerateRequest(ids, 60, ignore_eos=True)]).values()
    assert isinstance(result, Generated)
    assert len(result.ids) == 60
    assert (client.fake.model.eos in result.ids) is (dialect == "vllm")


def changed(**values: Any) -> Fault:
    """Return a fault that replaces parts of the first choice, or of the counts."""

    def change(reply: Json) -> Json:
        for name, value in values.items():
            where = reply.get("usage", {}) if name.endswith("_tokens") else (reply["choices"] or [{}])[0]
            if name in where:
                where[name] = value(where[name]) if callable(value) else value
        return reply

    return Fault(change=change)


TEXT_FAULTS = [
    (changed(prompt_tokens=4), "counts 4 tokens in a prompt of 2"),
    (changed(completion_tokens=9), "counts 9 new tokens and sent 6"),
    (changed(completion_tokens=3), "counts 3 new tokens and sent 6"),
    (changed(token_ids=lambda ids: ids * 2), "sent (8|12) tokens, 6 were asked for|counts 6 new tokens and sent 12"),
    (changed(token_ids=["six"]), "token ids that are no numbers"),
    (changed(token_ids=[-1]), "token ids that are no numbers"),
    (changed(token_ids="456"), "token ids are no list"),
    (changed(finish_reason=None), "None as the reason for the end|broke off before the text ended"),
    (changed(finish_reason="abort"), "'abort' as the reason for the end of the text"),
    (changed(index="x"), "unknown form"),
    (Fault(change=lambda reply: {"object": "text"}), "answered 0 of 1 prompts|broke off"),
    (Fault(change=lambda reply: {"choices": []}), "answered 0 of 1 prompts|broke off"),
    (Fault(change=lambda reply: {"choices": "none"}), "choices are no list"),
    (Fault(change=lambda reply: {"choices": reply["choices"] * 2}), "some of them twice|were asked for|counts 6 new"),
    (Fault(change=lambda reply: {"choices": [7]}), "not an object"),
    (Fault(change=lambda reply: [reply]), "answered 0 of 1 prompts|broke off"),
    (Fault(change=lambda reply: {"error": {"message": "out of\nblocks"}}), "out of blocks"),
    (Fault(status=400, message="context\nexceeded"), "HTTP 400: context exceeded"),
    (Fault(status=500), "HTTP 500: scripted"),
    (Fault(status=307, headers=(("Location", "http://elsewhere/"),)), "HTTP 307: a redirect to http://elsewhere/"),
    (Fault(raw=b"<html>busy</html>"), "not JSON|broke off"),
    (Fault(raw=b'{"choices": "\xff"}'), "not JSON|broke off"),
    (Fault(raw=b"[" * 100_000), "not JSON|broke off"),
    (Fault(resets="before"), "the connection to http://127.0.0.1:[0-9]+ broke"),
    (Fault(resets="within", events=3), "the connection to http://127.0.0.1:[0-9]+ broke"),
    (Fault(stalls=True, events=3), "no reply within 0.5 s|stalled"),
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("fault", "reason"), TEXT_FAULTS, ids=lambda value: str(value)[:40])
def test_a_faulty_reply_fails_its_text_alone(kept: Connected, fault: Fault, reason: str, streaming: bool) -> None:
    client = kept("vllm", tries=1, streaming=streaming, timeout_s=0.5 if fault.stalls else 20.0)
    client.fake.faults = lambda number, body: fault if body["prompt"] == [11, 3] else GOOD
    found = texts(client, greedy(6))
    failed = found.pop((1, 0))
    assert isinstance(failed, Failed)
    assert not failed.is_cancelled
    assert re.search(reason, failed.reason), failed.reason
    assert "\n" not in failed.reason
    for (index, _), result in found.items():
        assert isinstance(result, Generated)
        assert list(result.ids) == client.fake.model.text(PROMPTS[index], 6)[0]


STREAM_FAULTS = [
    (Fault(events=3), "the stream broke off before the text ended"),
    (Fault(events=0), "the stream broke off before the text ended"),
]


@pytest.mark.parametrize(("fault", "reason"), STREAM_FAULTS, ids=str)
def test_a_truncated_stream_is_no_text(kept: Connected, fault: Fault, reason: str) -> None:
    client = kept("vllm", streaming=True)
    client.fake.faults = lambda number, body: fault
    assert texts(client, greedy(6)[:1]) == {(0, 0): Failed(reason)}


def test_an_endless_stream_is_ended_at_once(connected: Connected) -> None:
    """A server that ignores the number of tokens would go on until the deadline."""
    client = connected("vllm", streaming=True, server={"ignores": frozenset({"seed"})})
    client.fake.ignores = frozenset({"max_tokens"})
    assert texts(client, [GenerateRequest((9, 4, 7), 3)]) == {
        (0, 0): Failed("the server sent 4 tokens, 3 were asked for")
    }


def test_llama_s_own_replies_are_checked_too(kept: Connected) -> None:
    client = kept("llama")
    for reply, reason in [
        ({"unrelated": 1}, "None as the reason for the end"),
        ({"stop": True, "stop_type": "none", "tokens": [4]}, "'none' as the reason"),
        (7, "not an object"),
        ({"stop": True, "stop_type": "eos", "tokens": [4], "tokens_evaluated": 9}, "counts 9 tokens in a prompt of 3"),
    ]:
        fault = Fault(change=partial(lambda reply, whole: reply, reply))
        client.fake.faults = lambda number, body: fault  # noqa: B023  # called within this turn
        (result,) = texts(client, greedy(6)[:1]).values()
        assert isinstance(result, Failed)
        assert reason in result.reason


def test_a_refused_prompt_does_not_fail_those_of_its_call(connected: Connected) -> None:
    client = connected("vllm", requests_per_call=5)
    asked = [*greedy(6)[:4], GenerateRequest(tuple(range(1, 120)) * 3, 6)]
    found = texts(client, asked)
    failed = found.pop((4, 0))
    assert failed == Failed("HTTP 400: 363 tokens are more than the context of 256")
    assert all(isinstance(result, Generated) for result in found.values())


def test_a_server_without_the_model_s_counts_is_believed_its_ids(kept: Connected) -> None:
    client = kept("vllm")
    client.fake.faults = lambda number, body: Fault(change=lambda reply: {"choices": reply["choices"]})
    assert isinstance(texts(client, greedy(6))[0, 0], Generated)


def test_nothing_of_a_huge_reply_is_kept(connected: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime_matrix.runtimes import http_calls

    monkeypatch.setattr(http_calls, "_MOST_BYTES", 1 << 20)
    client = connected("vllm", tries=1)
    client.fake.faults = lambda number, body: Fault(raw=b" " * (1 << 20) + b"{}")
    assert texts(client, greedy(6)[:1]) == {(0, 0): Failed("the reply of /v1/completions is larger than 1 MiB")}
    streaming = connected("vllm", streaming=True, tries=1)
    streaming.fake.faults = lambda number, body: Fault(raw=b"data: " + b"7" * (1 << 21))
    assert texts(streaming, greedy(6)[:1]) == {(0, 0): Failed("an event of the stream is too long")}
