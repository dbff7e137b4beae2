"""A server of our own over a loaded runtime, on a real socket in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.serving.app import make_app
from runtime_matrix.experiments.serving.loading import opened
from runtime_matrix.experiments.serving.options import ServeConfig, read_options
from runtime_matrix.experiments.serving.served import Served

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
KEY = "A_KEY_FOR_TESTS"  # a variable that no shell sets


@contextmanager
def loaded(artifacts: Path, words: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[Served]:
    """Yield a loaded model."""
    cell = plan(compose([f"artifacts_dir={artifacts}", "hw.threads=1", *words]), "a test")
    with opened(cell, config(*options)) as served:
        yield served


def config(*options: str) -> ServeConfig:
    """Return the options of a server without a key."""
    return read_options([f"serve.key_variable={KEY}", *options])


@contextmanager
def running(served: Served, options: ServeConfig | None = None) -> Iterator[str]:
    """Yield the address of a server."""
    settings = uvicorn.Config(make_app(served, options or config()), log_config=None, lifespan="off")
    server = uvicorn.Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def client(served: Served, options: ServeConfig | None = None) -> Iterator[httpx.Client]:
    """Yield a client of a server."""
    with (
        running(served, options) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as connected,
    ):
        yield connected


def events(reply: httpx.Response) -> list[Any]:
    """Return the events of a stream that has ended as announced."""
    import json

    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def with_chat(served: Served) -> Served:
    """Return the model with a chat template."""
    import jinja2

    template = jinja2.Template(CHAT_TEMPLATE)
    return replace(
        served,
        render=lambda messages: template.render(messages=messages, bos_token="<s>", add_generation_prompt=True),
    )
