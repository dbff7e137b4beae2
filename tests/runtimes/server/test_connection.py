"""Calls: how many at a time, over how many connections, to which server, and how often they are tried again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.server.openai_server import OpenAIServer
from runtime_matrix.runtimes.http_calls import ConnectionOptions, base_urls
from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest
from tests.runtimes.server.conftest import Client, Connected, Serving, load
from tests.runtimes.server.fake_openai_server import GOOD, FakeServer, Fault, Json
from tests.runtimes.server.toy_model import ToyModel

KEY = "sk-a-secret-of-the-user"


def ask(client: Client | OpenAIServer, count: int, tokens: int = 3) -> list[Generated | Failed]:
    runtime = client.runtime if isinstance(client, Client) else client
    asked = [GenerateRequest((9, 4, index), tokens) for index in range(1, count + 1)]
    return [result for _, _, result in sorted(runtime.generate(asked), key=lambda found: found[0])]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_reached_and_never_exceeded(connected: Connected, concurrency: int, streaming: bool) -> None:
    client = connected("vllm", concurrency=concurrency, streaming=streaming)
    client.fake.token_s = 0.002
    assert all(isinstance(result, Generated) for result in ask(client, 24))
    assert client.fake.most_in_flight <= concurrency
    assert client.fake.most_in_flight == concurrency or not streaming  # a call without a stream takes no time here


@pytest.mark.parametrize("streaming", [False, True])
def test_connections_are_kept_or_not(connected: Connected, streaming: bool) -> None:
    client = connected("vllm", concurrency=2, streaming=streaming)
    ask(client, 10)
    assert client.fake.connections <= 2
    closing = connected("vllm", concurrency=2, keep_alive=False, streaming=streaming)
    ask(closing, 10)
    assert closing.fake.connections == 10


def test_calls_go_round_the_servers(serving: Serving) -> None:
    first, second, third = (serving() for _ in range(3))
    with OpenAIServer(url=[fake.url for fake in (first, second, third)]) as runtime:
        load(runtime)
        for fake in (first, second, third):
            assert fake.bodies  # each is asked at load
            fake.forget()
        assert all(isinstance(result, Generated) for result in ask(runtime, 9))
    assert [len(fake.bodies) for fake in (first, second, third)] == [3, 3, 3]


def test_calls_go_to_the_server_with_the_fewest(serving: Serving) -> None:
    stalled, free = serving(), serving()
    with OpenAIServer(url=[stalled.url, free.url], balance="least_connections", concurrency=2, tries=1) as runtime:
        load(runtime)
        stalled.forget()
        free.forget()
        stalled.faults = lambda number, body: Fault(stalls=True)
        results = runtime.generate([GenerateRequest((9, index), 3) for index in range(1, 9)])
        assert all(isinstance(next(results)[2], Generated) for _ in range(7))
        results.close()
    assert (len(stalled.bodies), len(free.bodies)) == (1, 7)


@pytest.mark.parametrize("is_last", [False, True])
def test_a_server_that_is_down_is_found_at_load(serving: Serving, is_last: bool) -> None:
    good, down = serving(), serving()
    down.__exit__()
    urls = [good.url, down.url] if is_last else [down.url, good.url]
    with OpenAIServer(url=urls) as runtime, pytest.raises(Unsupported) as raised:
        load(runtime)
    assert str(raised.value) == f"no server answers at {down.url}: start the server, or correct runtime.engine.url"


def test_servers_of_different_models_are_refused(serving: Serving) -> None:
    urls = [serving().url, serving(names=("other",)).url]
    with OpenAIServer(url=urls) as runtime, pytest.raises(Unsupported) as raised:
        load(runtime)
    assert str(raised.value) == "the server has no model toy; it has other"


@pytest.mark.parametrize("fault", [Fault(status=429), Fault(status=503), Fault(resets="before")], ids=str)
def test_a_call_is_tried_again(connected: Connected, fault: Fault) -> None:
    client = connected("vllm", concurrency=1)
    before = client.runtime.counters()["retries"]
    client.fake.faults = lambda number, body: fault if number < 3 else GOOD
    (result,) = ask(client, 1)
    assert isinstance(result, Generated)
    assert len(client.fake.bodies) == 4
    assert client.runtime.counters()["retries"] - before == 3


def test_tries_end(connected: Connected) -> None:
    client = connected("vllm", tries=3)
    client.fake.faults = lambda number, body: Fault(status=500, message="ill")
    assert ask(client, 1) == [Failed("HTTP 500: ill after 3 tries")]
    assert len(client.fake.bodies) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 501, 307])
def test_what_would_fail_again_is_not_tried_again(connected: Connected, status: int) -> None:
    client = connected("vllm")
    client.fake.faults = lambda number, body: Fault(status=status)
    (result,) = ask(client, 1)
    assert isinstance(result, Failed)
    assert len(client.fake.bodies) == 1


@pytest.mark.parametrize("fault", [Fault(status=429), Fault(events=2, resets="within"), Fault(events=1, stalls=True)])
def test_a_stream_is_not_tried_again(connected: Connected, fault: Fault) -> None:
    """Its time to the first token would be that of two requests."""
    client = connected("vllm", streaming=True, timeout_s=0.5 if fault.stalls else 20.0)
    client.fake.faults = lambda number, body: fault
    (result,) = ask(client, 1)
    assert isinstance(result, Failed)
    assert len(client.fake.bodies) == 1


def test_a_kept_connection_that_was_closed_is_opened_again(connected: Connected) -> None:
    client = connected("vllm", streaming=True)
    client.fake.faults = lambda number, body: Fault(resets="before") if number == 0 else GOOD
    (result,) = ask(client, 1)
    assert isinstance(result, Generated)
    assert len(client.fake.bodies) == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_no_call_outlasts_its_deadline(connected: Connected, streaming: bool) -> None:
    client = connected("vllm", streaming=streaming, timeout_s=0.5, tries=1)
    client.fake.token_s = 0.05
    client.fake.faults = lambda number, body: GOOD if streaming else Fault(stalls=True)
    (result,) = ask(client, 1, 100)
    assert result == Failed("the stream did not end within 0.5 s" if streaming else "no reply within 0.5 s")


def test_the_key_is_sent_and_shown_nowhere(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")  # as files of secrets end
    fake = serving(key=KEY)
    with OpenAIServer(url=fake.url, key_variable="MY_KEY", tries=1) as runtime:
        traits = load(runtime)
        assert {headers["Authorization"] for headers in fake.headers} == {f"Bearer {KEY}"}
        fake.faults = lambda number, body: Fault(status=400, message=f"wrong key {KEY}")
        refused = ask(runtime, 1)
        fake.faults = lambda number, body: Fault(change=lambda reply: {"error": f"wrong key {KEY}"})
        refused += ask(runtime, 1)
        shown = [traits, runtime.capabilities, runtime, runtime._connection, runtime._options, refused]
        assert KEY not in repr(shown)
    assert refused == [Failed("HTTP 400: wrong key ***"), Failed("wrong key ***")]
    fake.key = "another"
    with OpenAIServer(url=fake.url, key_variable="MY_KEY") as runtime, pytest.raises(Unsupported) as raised:
        load(runtime)
    assert str(raised.value) == (
        "the server refuses the API key: set the environment variable MY_KEY (HTTP 401: wrong key Bearer ***)"
    )


def test_no_proxy_stands_between(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    fake = serving()
    with OpenAIServer(url=fake.url) as runtime:
        load(runtime)
    assert fake.bodies  # the proxy, which does not exist, was not asked


BAD = [
    ({"url": None}, "set runtime.engine.url=http://HOST:PORT, or a list of addresses"),
    ({"url": []}, "set runtime.engine.url=http://HOST:PORT"),
    ({"url": "localhost:8000"}, "runtime.engine.url=localhost:8000 is no address such as http://localhost:8000"),
    ({"url": "ftp://host"}, "runtime.engine.url=ftp://host is no address"),
    ({"url": "http://host:port"}, "runtime.engine.url=http://host:port is no address"),
    ({"url": "http://[::1"}, "is no address"),
    ({"url": "http://user:secret@host"}, "runtime.engine.url must not contain a password or a query"),
    ({"url": "user:secret@host"}, "must not contain a password"),
    ({"url": "http://host/v1?key=secret"}, "must not contain a password or a query"),
    ({"balance": "fastest"}, "balance=fastest is unknown: use round_robin or least_connections"),
    ({"concurrency": 0}, "runtime.engine.concurrency=0 must be at least 1"),
    ({"scoring_concurrency": 0}, "runtime.engine.scoring_concurrency=0 must be at least 1"),
    ({"tries": 0}, "runtime.engine.tries=0 must be at least 1"),
    ({"timeout_s": 0}, "runtime.engine.timeout_s=0 must be at least 0.001"),
    ({"requests_per_call": 0}, "runtime.engine.requests_per_call=0 must be at least 1"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_a_mistake_is_named_in_one_line_before_any_call(options: Json, message: str) -> None:
    runtime = OpenAIServer(**{"url": "http://127.0.0.1:9", **options})
    with pytest.raises(Unsupported) as raised:
        runtime.check(Hardware("cpu", 1))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_key_with_odd_characters_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "clé-secrète")
    with pytest.raises(Unsupported, match="the environment variable OPENAI_API_KEY holds no API key") as raised:
        ConnectionOptions(()).check()
    assert "secr" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_version_is_not_part_of_the_address(url: str) -> None:
    assert base_urls(url) == ("http://h:1",)


UNREADY = [
    ({}, {"url": "http://127.0.0.1:9"}, "no server answers at http://127.0.0.1:9: start the server, or correct"),
    ({}, {"model": "gpt"}, "the server has no model gpt; it has toy"),
    ({"names": ("a", "b")}, {}, "the server has 2 models: set runtime.engine.model to one of a, b"),
    ({"names": tuple("abcdefg")}, {"model": "x"}, "the server has no model x; it has a, b, c, d, e, …"),
    ({"names": ()}, {}, "the server has 0 models"),
    ({"key": "right"}, {}, "the server refuses the API key: set the environment variable OPENAI_API_KEY (HTTP 401"),
    ({"dialect": "text"}, {}, "the server takes no token ids as a prompt (HTTP 400: prompt must be a string), and the"),
    ({}, {"tokenized": False}, "runtime.engine.tokenized=false needs a model with a tokenizer"),
    ({"faults": lambda number, body: Fault(status=500)}, {"tries": 1}, "the server generates nothing: HTTP 500"),
    ({"faults": lambda number, body: Fault(status=401)}, {}, "the server refuses the API key"),
]


@pytest.mark.parametrize(("served", "options", "message"), UNREADY, ids=[message[:40] for *_, message in UNREADY])
def test_a_server_that_does_not_fit_is_named_in_one_line(
    serving: Serving, served: Json, options: Json, message: str
) -> None:
    fake: FakeServer = serving(**served)
    with OpenAIServer(**{"url": fake.url, **options}) as runtime, pytest.raises(Unsupported) as raised:
        load(runtime)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


class Shifted:
    """The same pieces under other ids."""

    def __init__(self, tokenizer: Any):
        self.decode, self._encode = tokenizer.decode, tokenizer.encode

    def encode(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(ids=[token + 1 for token in self._encode(text).ids])


def test_another_tokenizer_is_found_by_its_ids(serving: Serving, bundled: tuple[ModelSource, Any]) -> None:
    source, tokenizer = bundled
    fake = serving(tokenizer=Shifted(tokenizer), model=ToyModel(2048))
    with OpenAIServer(url=fake.url) as runtime, pytest.raises(Unsupported) as raised:
        load(runtime, source)
    assert str(raised.value).startswith("the server's tokenizer differs from the model's: 'Once upon a time there w")
    assert "with other ids; set model.path to the folder of the model that is served" in str(raised.value)
