"""Requests that are started one by one: their events in order, their end exactly once, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from typing_extensions import override

from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Usage
from tests.runtimes.server.conftest import Client, Connected
from tests.runtimes.server.fake_openai_server import Fault

_LONG_S = 5.0  # never waited for unless a test fails
STALLED = Fault(events=2, stalls=True)


class Heard:
    """A listener that keeps all events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float]] = []
        self.ids: list[int] = []
        self.results: list[Generated | Failed] = []
        self.usage = Usage()
        self.ended, self.has_tokens = threading.Event(), threading.Event()

    def on_start(self, at_s: float) -> None:
        self.events.append(("start", at_s))

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        self.ids += ids
        self.events.append(("tokens", at_s))
        self.has_tokens.set()

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        self.results.append(result)
        self.usage = usage
        self.events.append(("end", at_s))
        self.ended.set()

    @property
    def result(self) -> Generated | Failed:
        assert self.ended.wait(_LONG_S)
        (result,) = self.results
        return result


def request(tokens: int = 6) -> GenerateRequest:
    return GenerateRequest((9, 4, 7), tokens, ignore_eos=True)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONG_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def left(client: Client, count: int) -> None:
    """Wait until the server has seen so many clients leave."""
    for _ in range(count):
        assert client.fake.left.acquire(timeout=_LONG_S)
    assert client.fake.disconnects == count


@pytest.mark.parametrize("dialect", ["vllm", "llama"])
def test_events_come_in_order_with_their_times(kept: Connected, dialect: str) -> None:
    client, heard, before = kept(dialect), Heard(), time.perf_counter()
    client.runtime.start(request(), heard)
    result = heard.result
    assert isinstance(result, Generated)
    assert heard.ids == list(result.ids)
    assert [kind for kind, _ in heard.events] == ["start", *["tokens"] * 6, "end"]
    times = [at_s for _, at_s in heard.events]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= time.perf_counter()
    assert (heard.usage.prompt_tokens, heard.usage.new_tokens) == (3, 6)


def test_a_cancelled_request_frees_the_server_and_ends_once(kept: Connected) -> None:
    client, heard = kept("vllm"), Heard()
    client.fake.faults = lambda number, body: STALLED
    stream = client.runtime.start(request(), heard)
    assert heard.has_tokens.wait(_LONG_S)
    stream.cancel()
    assert heard.result == Failed("cancelled", is_cancelled=True)
    left(client, 1)
    stream.cancel()
    assert len(heard.results) == 1


def test_a_request_that_is_cancelled_at_once_ends_once(kept: Connected) -> None:
    client = kept("vllm")
    for _ in range(20):
        heard = Heard()
        client.runtime.start(request(), heard).cancel()
        assert heard.result == Failed("cancelled", is_cancelled=True)
        assert [kind for kind, _ in heard.events if kind != "tokens"] == ["start", "end"]


def test_a_cancel_after_the_end_is_nothing(connected: Connected) -> None:
    client, heard = connected("vllm"), Heard()
    stream = client.runtime.start(request(), heard)
    assert isinstance(heard.result, Generated)
    stream.cancel()
    client.runtime.close()
    stream.cancel()
    assert len(heard.results) == 1


def test_a_listener_that_fails_ends_its_request(kept: Connected) -> None:
    class Broken(Heard):
        @override
        def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
            raise RuntimeError("no room")

    heard = Broken()
    kept("vllm").runtime.start(request(), heard)
    result = heard.result
    assert isinstance(result, Failed)
    assert "no room" in result.reason


def test_close_ends_what_is_in_flight(connected: Connected) -> None:
    client = connected("vllm")
    client.fake.faults = lambda number, body: STALLED
    started = [Heard() for _ in range(5)]
    for heard in started:
        client.runtime.start(request(), heard)
    assert all(heard.has_tokens.wait(_LONG_S) for heard in started)
    before = time.monotonic()
    client.runtime.close()
    assert time.monotonic() - before < 1.0
    assert [heard.result for heard in started] == [Failed("cancelled", is_cancelled=True)] * 5
    left(client, 5)
    client.runtime.close()


def test_close_ends_an_iteration_in_another_thread(connected: Connected) -> None:
    client = connected("vllm")
    client.fake.faults = lambda number, body: STALLED
    raised: list[BaseException] = []
    has_begun = threading.Event()

    def iterate() -> None:
        has_begun.set()
        try:
            list(client.runtime.generate([request()]))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=iterate)
    thread.start()
    assert has_begun.wait(_LONG_S)
    wait_until(lambda: client.fake.in_flight == 1)
    client.runtime.close()
    thread.join(_LONG_S)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_an_iteration_that_is_given_up_frees_the_server(kept: Connected) -> None:
    client = kept("vllm", concurrency=4)
    client.fake.faults = lambda number, body: Fault() if number == 0 else Fault(stalls=True)
    results = client.runtime.generate([request()] * 4)
    assert isinstance(next(results)[2], Generated)
    wait_until(lambda: client.fake.in_flight == 3)
    results.close()
    left(client, 3)
    wait_until(lambda: client.fake.in_flight == 0)


def test_the_reply_decides_not_the_speed_of_others(kept: Connected) -> None:
    """Results come as they are finished: one stalled request holds up no other."""
    client = kept("vllm", concurrency=4)
    client.fake.faults = lambda number, body: Fault(stalls=True) if body["max_tokens"] == 5 else Fault()
    results = client.runtime.generate([request(5), *[request(4)] * 6])
    assert sorted(next(results)[0] for _ in range(6)) == [1, 2, 3, 4, 5, 6]
    results.close()
