"""What the server refuses, and what it does when a client leaves."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.serving.options import read_options
from runtime_matrix.experiments.serving.running import bind
from runtime_matrix.experiments.serving.served import Served
from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.server.openai_server import OpenAIServer
from tests.experiments.serving.server import KEY, client, config, loaded, running

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
WAIT_S = 30.0
SLOW = ("runtime=fake", "model=random", "runtime.engine.token_s=0.05")
LONG = {"prompt": [10], "max_tokens": 900, "temperature": 0}


@pytest.fixture(scope="module")
def slow(artifacts: Path) -> Iterator[Served]:
    """Return a runtime with one row, whose texts take long, and no tokenizer."""
    with loaded(artifacts, SLOW, ["serve.max_batch=1", "serve.max_requests=3"]) as served:
        yield served


def wait_for(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def error(reply: httpx.Response) -> dict[str, Any]:
    """Return the error of a refusal, which is in one line."""
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert "\n" not in found["message"]
    assert "Traceback" not in reply.text
    return found


HOSTILE = {
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "a number": b"7",
    "nested": b"[" * 100_000,
    "no prompt": {},
    "an empty prompt": {"prompt": []},
    "an empty list of ids": {"prompt": [[]]},
    "an unknown id": {"prompt": [2048]},
    "a negative id": {"prompt": [-1]},
    "a huge id": {"prompt": [2**70]},
    "a mixed prompt": {"prompt": [5, "text"]},
    "an object as prompt": {"prompt": {"a": 1}},
    "a nested list": {"prompt": [[[5]]]},
    "true as id": {"prompt": [5, True]},
    "too long": {"prompt": [5] * 1025},
    "too many tokens": {"prompt": "x", "max_tokens": 2000},
    "a negative length": {"prompt": "x", "max_tokens": -1},
    "a text as length": {"prompt": "x", "max_tokens": "9"},
    "a negative temperature": {"prompt": "x", "temperature": -1},
    "no temperature": b'{"prompt": "x", "temperature": NaN}',
    "a huge number": b'{"prompt": "x", "temperature": 1e999}',
    "top_p": {"prompt": "x", "top_p": 2},
    "n": {"prompt": "x", "n": 0},
    "too many samples": {"prompt": "x", "n": 100},
    "too many prompts": {"prompt": ["x"] * 100},
    "an empty stop": {"prompt": "x", "stop": [""]},
    "many stops": {"prompt": "x", "stop": ["a"] * 100},
    "a text as stream": {"prompt": "x", "stream": "yes"},
    "stream_options": {"prompt": "x", "stream_options": 7},
    "logprobs": {"prompt": "x", "logprobs": True},
    "too many log-probabilities": {"prompt": "x", "max_tokens": 1000, "logprobs": 2048},
    "a streamed echo": {"prompt": "x", "echo": True, "logprobs": 1, "stream": True},
    "a seed": {"prompt": "x", "seed": 2**80},
    "a penalty": {"prompt": "x", "presence_penalty": 1},
    "top_k": {"prompt": "x", "top_k": 40},
    "an unknown field": {"prompt": "x", "beam_width": 4},
    "a lone surrogate": b'{"prompt": "\\ud800"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mistake_is_refused_in_one_line(http: httpx.Client, name: str) -> None:
    body = HOSTILE[name]
    reply = http.post(COMPLETIONS, content=body if isinstance(body, bytes) else json.dumps(body).encode())
    assert reply.status_code == 400, reply.text
    assert error(reply)["type"] == "invalid_request_error"
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (COMPLETIONS, {"prompt": "x", "model": "other"}, 404),
        ("/v1/embeddings", {}, 404),
        (CHAT, {"messages": []}, 400),
        (CHAT, {"messages": [{"content": "x"}]}, 400),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
        (CHAT, {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}, 400),
        (CHAT, {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}, 400),
        ("/tokenize", {}, 400),
        ("/detokenize", {"tokens": [5000]}, 400),
        ("/loglikelihood", [], 400),
        ("/loglikelihood", {"context": "", "continuation": "x"}, 400),
        ("/loglikelihood", {"context": "x", "continuation": [5]}, 400),
        ("/loglikelihood", {"context": [5] * 1024, "continuation": [5, 6]}, 400),
        ("/loglikelihood", [{"context": "x", "continuation": "y"}] * 100, 400),
    ],
)
def test_other_mistakes_are_refused_too(http: httpx.Client, path: str, body: Any, status: int) -> None:
    reply = http.post(path, json=body)
    assert reply.status_code == status, reply.text
    error(reply)


def test_a_wrong_method_is_refused(http: httpx.Client) -> None:
    assert error(http.get(COMPLETIONS))["code"] == 405


def test_a_long_body_is_refused_before_it_is_read(bundled: Served) -> None:
    with client(bundled, config("serve.max_body_bytes=1000")) as http:
        assert http.post(COMPLETIONS, json={"prompt": "x" * 900, "max_tokens": 1}).status_code == 200
        reply = http.post(COMPLETIONS, json={"prompt": "x" * 10_000})
        assert (reply.status_code, error(reply)["message"]) == (
            413,
            "the body has more than serve.max_body_bytes=1000 bytes",
        )


def test_the_api_key_is_asked_for(slow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    body = {"prompt": [10], "max_tokens": 2, "temperature": 0}
    with client(slow) as http:
        assert http.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer secreT"}, {"Authorization": "secret2"}):
            for reply in (http.post(COMPLETIONS, json=body, headers=headers), http.get("/metrics", headers=headers)):
                assert reply.status_code == 401
                assert "secret" not in error(reply)["message"]
        right = {"Authorization": "Bearer secret"}
        assert http.post(COMPLETIONS, json=body, headers=right).status_code == 200
        assert http.get("/v1/models", headers=right).status_code == 200


def test_a_model_without_a_tokenizer_takes_ids_alone(slow: Served) -> None:
    with client(slow) as http:
        reply = http.post(COMPLETIONS, json={"prompt": "a text"})
        assert reply.status_code == 400
        assert "no tokenizer" in error(reply)["message"]
        assert error(http.post(CHAT, json={"messages": [{"role": "user", "content": "x"}]}))["code"] == 400
        assert error(http.post("/tokenize", json={"prompt": "x"}))["code"] == 400
        body = {"prompt": [10], "max_tokens": 3, "temperature": 0, "return_token_ids": True, "logprobs": 1}
        (choice,) = http.post(COMPLETIONS, json=body).json()["choices"]
        assert choice["token_ids"] == [11, 12, 13]
        assert choice["logprobs"]["tokens"] == ["token_id:11", "token_id:12", "token_id:13"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_row(slow: Served, stream: bool) -> None:
    counts = slow.scheduler.counts
    before = counts.cancelled
    with client(slow) as http, client(slow) as leaving:
        if stream:
            with leaving.stream("POST", COMPLETIONS, json={**LONG, "stream": True}) as reply:
                next(reply.iter_lines())
                assert counts.admitted == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post(COMPLETIONS, json=LONG, timeout=0.3)
        wait_for(lambda: counts.cancelled == before + 1)
        assert counts.admitted == 0
        assert http.post(COMPLETIONS, json={**LONG, "max_tokens": 2}).status_code == 200


def test_requests_beyond_the_limit_get_429(slow: Served) -> None:
    with client(slow) as http, http.stream("POST", COMPLETIONS, json={**LONG, "prompt": [[10], [20]], "stream": True}):
        reply = http.post(COMPLETIONS, json={**LONG, "prompt": [[10], [20]]})
        assert reply.status_code == 429
        assert error(reply)["type"] == "rate_limit_error"
        streamed = http.post(COMPLETIONS, json={**LONG, "prompt": [[10], [20]], "stream": True})
        assert streamed.status_code == 429  # not a stream with an error in it
    wait_for(lambda: slow.scheduler.counts.admitted == 0)


def test_an_error_of_the_runtime_is_told(artifacts: Path) -> None:
    words = ("runtime=fake", "model=random", "runtime.engine.fault=not_finite")
    with loaded(artifacts, words) as served, client(served) as http:
        body = {"prompt": [10], "max_tokens": 2, "echo": True, "logprobs": 1}
        for reply in (
            http.post(COMPLETIONS, json={"prompt": [10]}),
            http.post(COMPLETIONS, json={**body, "prompt": [1, 2]}),
        ):
            assert reply.status_code == 500
            assert "logits are not finite" in error(reply)["message"]
        assert http.get("/health").status_code == 200
        for _ in range(3):
            assert http.post("/loglikelihood", json={"context": [1], "continuation": [2]}).status_code == 500
        reply = http.get("/health")
        assert (reply.status_code, reply.json()) == (503, {"status": "failing"})
        served.scheduler.counts.consecutive_failures = 2
        assert http.get("/health").status_code == 200
        served.scheduler.close()
        reply = http.get("/health")
        assert (reply.status_code, reply.json()) == (503, {"status": "stopping"})


def test_a_runtime_that_computes_again_is_healthy_again(artifacts: Path) -> None:
    with loaded(artifacts, ("runtime=fake", "model=random")) as served, client(served) as http:
        served.scheduler.counts.consecutive_failures = 5
        assert http.get("/health").status_code == 503
        assert http.post(COMPLETIONS, json={"prompt": [10], "max_tokens": 8}).status_code == 200
        assert http.get("/health").status_code == 200


def test_connections_are_refused_until_the_model_is_loaded() -> None:
    with bind(config("serve.port=0")) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


def test_our_own_client_finds_every_capability(bundled: Served) -> None:
    with running(bundled) as url:
        server = OpenAIServer(url=url)
        traits = server.load(ModelSource("bundled", BUNDLED / "model"), Hardware("cpu", 1), lambda _: nullcontext())
        try:
            can = server.capabilities
            assert can.takes_ids
            assert can.returns_ids
            assert can.prompt_logprobs
            assert can.seeds
            assert can.streams
            assert can.reports_metrics
            assert can.caches_prefixes is False
            assert (can.end_of_text, can.top_logprobs, can.reasons) == ("ignored", 2048, {})
            assert traits.max_length == 1024
            assert server.metrics()["runtime_matrix_server_generated_tokens_total"] > 0
        finally:
            server.close()


def test_an_engine_that_takes_whole_requests_is_refused(artifacts: Path) -> None:
    with (
        pytest.raises(Unsupported, match="takes whole requests and gives no logits"),
        loaded(artifacts, ["runtime=server", "runtime.engine.url=http://127.0.0.1:9"]),
    ):
        pass


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("serve.prot=8000", "serve.prot is not a known key; did you mean 'port'"),
        ("serve.port=none", "serve.port must be of the type int"),
        ("serve.max_batch=0", "serve.max_batch must be at least 1"),
        ("serve.port", "has no value"),
        ("serve.host=[", "serve.host"),
    ],
)
def test_a_mistake_in_an_option_is_named(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_options([word])
