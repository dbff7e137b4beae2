"""Run the application with uvicorn until a signal, then let running texts end within a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import uvicorn
from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.serving.app import make_app
from runtime_matrix.experiments.serving.options import ServeConfig
from runtime_matrix.experiments.serving.served import Served

_CLOSE_S = 1.0  # for connections, after the running texts were cancelled


def bind(config: ServeConfig) -> socket.socket:
    """Return a bound socket; UserError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio sends small parts of a reply at once only over sockets that name their protocol; else each waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen at serve.host={config.host} serve.port={config.port}: {error.strerror or error}; "
            "serve.port=0 takes a free port"
        ) from error
    return listener


def run(served: Served, config: ServeConfig, listener: socket.socket, facts: JsonObject) -> None:
    """Serve until SIGTERM or SIGINT. `facts` are added to the line that is printed when requests are taken."""
    asyncio.run(_serve(served, config, listener, facts))


async def _serve(served: Served, config: ServeConfig, listener: socket.socket, facts: JsonObject) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    settings = uvicorn.Config(
        make_app(served, config),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=int(config.grace_s + _CLOSE_S) + 1,
    )
    server = _Server(settings, {"event": "ready", "url": address, "pid": os.getpid(), "model": served.name, **facts})
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        server.force_exit = server.should_exit  # at the second signal
        server.should_exit = True
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    ending = asyncio.create_task(_end_texts(served, stopping, config.grace_s))
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _end_texts(served: Served, stopping: asyncio.Event, grace_s: float) -> None:
    """After the signal, cancel the texts that do not end in time; their clients get an error."""
    await stopping.wait()
    await asyncio.sleep(grace_s)
    await asyncio.to_thread(served.scheduler.close)


class _Server(uvicorn.Server):
    """Prints a line when requests are taken, and leaves signals alone."""

    def __init__(self, settings: uvicorn.Config, ready: JsonObject):
        super().__init__(settings)
        self._ready = ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._ready), flush=True)

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield
