"""Fake servers and clients of them, which are closed at the end of a test with no thread left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from runtime_matrix.runtimes import http_calls
from runtime_matrix.runtimes.base import Hardware, ModelSource, Traits
from runtime_matrix.runtimes.engines.server.openai_server import OpenAIServer
from tests.conftest import ROOT
from tests.runtimes.server.fake_openai_server import GOOD, FakeServer

BUNDLED_MODEL = ROOT / "experiments" / "bundled" / "model"
TOY = ModelSource("toy", architecture={"vocab_size": 128, "max_position_embeddings": 256, "eos_token_id": 0})


@dataclass(frozen=True)
class Client:
    """A loaded runtime and the server that it asks."""

    runtime: OpenAIServer
    traits: Traits
    fake: FakeServer


Connected = Callable[..., Client]
Serving = Callable[..., FakeServer]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries follow at once, and keep the API key of this machine out."""
    monkeypatch.setattr(http_calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fail if a client's thread outlives the tests of a module."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "server client"]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what a test opens, clients before servers."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serving(opened: ExitStack) -> Serving:
    """Return a function that starts a fake server."""
    return lambda *words, **options: opened.enter_context(FakeServer(*words, **options))


@pytest.fixture
def connected(opened: ExitStack) -> Connected:
    """Return a function that loads a client of a new fake server; its counts begin after the probe."""

    def connect(dialect: str = "vllm", source: ModelSource = TOY, /, server: Any = None, **options: Any) -> Client:
        return _connected(opened, dialect, source, server or {}, options)

    return connect


@pytest.fixture(scope="module")
def kept() -> Iterator[Connected]:
    """Return the same for clients that the tests of a module share; each use begins without faults."""
    clients: dict[str, Client] = {}
    with ExitStack() as stack:

        def connect(dialect: str = "vllm", /, **options: Any) -> Client:
            key = f"{dialect} {options}"
            if key not in clients:
                clients[key] = _connected(stack, dialect, TOY, {}, options)
            clients[key].fake.forget()
            clients[key].fake.faults = lambda number, body: GOOD
            return clients[key]

        yield connect


def _connected(
    stack: ExitStack, dialect: str, source: ModelSource, server: dict[str, Any], options: dict[str, Any]
) -> Client:
    fake = stack.enter_context(FakeServer(dialect, **server))
    runtime = stack.enter_context(OpenAIServer(url=fake.url, **options))
    traits = load(runtime, source)
    fake.forget()
    return Client(runtime, traits, fake)


def load(runtime: OpenAIServer, source: ModelSource = TOY) -> Traits:
    return runtime.load(source, Hardware("cpu", 1), lambda name: nullcontext())


@pytest.fixture(scope="session")
def bundled() -> tuple[ModelSource, Any]:
    """Return the bundled model and its tokenizer."""
    from tokenizers import Tokenizer

    return ModelSource("bundled", BUNDLED_MODEL), Tokenizer.from_file(str(BUNDLED_MODEL / "tokenizer.json"))
