"""What a server does is found by asking: a field that is ignored with status 200 is found out."""

from __future__ import annotations

import pytest

from runtime_matrix.runtimes.base import ModelSource
from tests.runtimes.server.conftest import Connected
from tests.runtimes.server.fake_openai_server import Fault, Json
from tests.runtimes.server.toy_model import ToyModel


@pytest.mark.parametrize(
    ("dialect", "found"),
    [
        ("vllm", {"returns_ids": True, "prompt_logprobs": True, "top_logprobs": 128, "end_of_text": "ignored"}),
        ("llama", {"returns_ids": True, "prompt_logprobs": False, "top_logprobs": 128, "end_of_text": "banned"}),
        ("legacy", {"returns_ids": False, "prompt_logprobs": True, "top_logprobs": 0, "reports_metrics": False}),
    ],
)
def test_each_dialect_is_told_apart(connected: Connected, dialect: str, found: Json) -> None:
    client = connected(dialect)
    assert found.items() <= vars(client.runtime.capabilities).items()
    missing = {name for name, value in found.items() if value in (False, 0)} - {"reports_metrics"}
    assert missing == set(client.runtime.capabilities.reasons)
    assert all("\n" not in reason and len(reason) > 20 for reason in client.runtime.capabilities.reasons.values())


def test_a_server_of_texts_is_asked_by_texts(connected: Connected, bundled: tuple[ModelSource, object]) -> None:
    source, tokenizer = bundled
    client = connected("text", source, server={"tokenizer": tokenizer, "model": ToyModel(2048), "max_length": None})
    can = client.runtime.capabilities
    assert [can.takes_ids, can.returns_ids, can.prompt_logprobs, can.top_logprobs] == [False, False, False, 0]
    assert "prompt must be a string" in can.reasons["takes_ids"]
    assert can.seeds
    assert can.streams


@pytest.mark.parametrize(
    ("dialect", "ignored", "capability", "reason"),
    [
        ("vllm", {"prompt_logprobs", "echo"}, "prompt_logprobs", "refuses or ignores prompt_logprobs and echo"),
        ("legacy", {"echo"}, "prompt_logprobs", "refuses or ignores"),
        ("llama", {"return_tokens", "n_predict"}, "returns_ids", ""),
        ("vllm", {"return_token_ids"}, "returns_ids", "returns no ids"),
        ("vllm", {"seed"}, "seeds", "equal seeds gave different samples"),
        ("text", {"seed"}, "seeds", "equal seeds gave different samples"),
    ],
)
def test_a_field_that_is_ignored_is_a_missing_capability(
    connected: Connected,
    bundled: tuple[ModelSource, object],
    dialect: str,
    ignored: set[str],
    capability: str,
    reason: str,
) -> None:
    source, tokenizer = bundled
    words = {"tokenizer": tokenizer, "model": ToyModel(2048), "max_length": None, "ignores": frozenset(ignored)}
    client = connected(dialect, source, server=words)
    if dialect == "llama":  # the ids beside the log-probabilities remain
        assert client.runtime.capabilities.returns_ids
        assert client.traits.notes[0] == "ids of new tokens from logprobs"
        return
    assert getattr(client.runtime.capabilities, capability) is False
    assert reason in client.runtime.capabilities.reasons[capability]
    assert any(note.startswith(f"{capability}: ") for note in client.traits.notes)


@pytest.mark.parametrize(("end", "found"), [("ignored", "ignored"), ("banned", "banned"), ("ends", "ends")])
def test_the_effect_of_ignoring_the_end_of_text(connected: Connected, end: str, found: str) -> None:
    client = connected("vllm", server={"end_of_text": end})
    assert client.runtime.capabilities.end_of_text == found
    assert f"end of text {found}" in client.traits.notes


def test_an_end_that_is_not_sent_is_told_from_one_that_is_banned(connected: Connected) -> None:
    """Without the end in the ids, a text that goes on by another token looks like one that goes on after the end."""

    def without_end(number: int, body: Json) -> Fault:
        def change(reply: Json) -> Json:
            for choice in reply.get("choices", ()):
                if choice.get("token_ids") and choice["token_ids"][-1] == 0 and choice["finish_reason"] == "stop":
                    choice["token_ids"].pop()
            return reply

        return Fault(change=change)

    for end in ("banned", "ignored"):
        client = connected("vllm", server={"end_of_text": end, "faults": without_end})
        assert client.runtime.capabilities.end_of_text == end


def test_a_stream_that_arrives_at_once_times_no_tokens(connected: Connected) -> None:
    def at_once(number: int, body: Json) -> Fault:
        return Fault(events=1) if body.get("stream") else Fault()

    client = connected("vllm", server={"faults": at_once})
    assert "together" in client.runtime.capabilities.reasons["streams"]


@pytest.mark.parametrize(("caches", "found"), [(True, True), (False, False), (None, None)])
def test_the_reuse_of_prompts(connected: Connected, caches: bool | None, found: bool | None) -> None:
    client = connected("vllm", server={"caches": caches})
    assert client.runtime.capabilities.caches_prefixes is found
    assert client.traits.caches_prompts is (found is not False)  # what is unknown is allowed for


def test_the_prompt_of_the_reuse_fills_a_block(connected: Connected) -> None:
    """vLLM reuses whole blocks, of 16 tokens on a GPU and of 128 on a CPU."""
    lengths: list[int] = []

    def note(number: int, body: Json) -> Fault:
        lengths.append(len(body["prompt"]))
        return Fault()

    connected("vllm", server={"max_length": 1024, "caches": True, "faults": note})
    assert max(lengths) > 128


def test_metrics_of_the_same_name_are_added_up(connected: Connected) -> None:
    client = connected("vllm")
    assert client.runtime.metrics() == {"calls_total": 3.0, "busy": 0.5}
    assert connected("legacy").runtime.metrics() == {}


def test_the_length_is_the_servers(connected: Connected) -> None:
    assert connected("vllm", server={"max_length": 96}).traits.max_length == 96
    assert connected("vllm", server={"max_length": None}).traits.max_length == 256
