"""A judge behind any address with the OpenAI API: calls in flight together, retries, and a deadline for each call."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import among, least, outside_identity
from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.judges.judge import Asker, Asking, AskingConfig, NoReply, OnReply, OpenLocal, Reply
from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.http_calls import CallFailed, Connection, ConnectionOptions, base_url
from runtime_matrix.runtimes.weights.packages import require

_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_REFUSED = frozenset({401, 403, 404})  # statuses that every other call would get too
_TICK_S = 0.1  # between looks for SIGTERM
_CONNECT_S = 5.0
_MOST_FAILED = 10  # calls in a row, beside those in flight, after which the others are not made


@dataclass(frozen=True, kw_only=True)
class ServerConfig(AskingConfig):
    """Options of `server`. Those of the calls alone are outside the identity."""

    url: str | None
    model: str | None
    endpoint: str = among(*_PATHS)
    concurrency: int = least(1, identity=False)
    tries: int = least(1, identity=False)
    timeout_s: float = least(0.001, identity=False)
    key_variable: str | None = outside_identity()


class Server(Asking[ServerConfig]):
    """Asks a served model, whose replies are read as JSON or words."""

    name = "server"
    about = "A model behind the OpenAI API is asked by a prompt."
    Config = ServerConfig

    @override
    def check(self, config: ServerConfig) -> None:
        super().check(config)
        try:
            require("httpx", "server")
            url = _url(config)
            _options(config, url).check()
        except Unsupported as error:
            raise UserError(str(error)) from error
        if config.model is None:
            raise UserError("judge.model is missing: set judge.model=NAME, as the server calls it")
        if config.key_variable is not None and not os.environ.get(config.key_variable, "").strip():
            raise UserError(
                f"judge.key_variable={config.key_variable}: the environment has no such variable: export it with the "
                "API key, or set judge.key_variable=null for a server that needs none"
            )
        _check_reachable(url)

    @override
    @contextmanager
    def opened(self, config: ServerConfig, open_local: OpenLocal) -> Iterator[Asker]:
        yield _Client(config)


JUDGE = Server()


class _Client:
    """The asker of a served model."""

    def __init__(self, config: ServerConfig):
        self._config = config
        self._url = _url(config)
        self._retries = self._calls = 0
        self._in_a_row = 0  # calls that have failed since the last one that was answered
        self._refusal: str | None = None  # why no further call is made

    @property
    def identity(self) -> JsonObject:
        config = self._config
        return {"url": self._url, "model": config.model, "body": self._body("")}

    def ask(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        """Ask by all prompts, at most `concurrency` at a time. SIGTERM is heeded between two replies."""
        with interruption.deferring():
            asyncio.run(self._ask(prompts, on_reply))

    def counters(self) -> Mapping[str, int]:
        return {"calls": self._calls, "retries": self._retries}

    async def _ask(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        waiting = iter(enumerate(prompts))
        async with aclosing(Connection(_options(self._config, self._url))) as connection:

            async def worker() -> None:
                for index, prompt in waiting:
                    reply = (
                        NoReply(self._refusal, "not asked") if self._refusal else await self._call(connection, prompt)
                    )
                    on_reply(index, reply)
                    interruption.check()

            watch = asyncio.create_task(_watch())
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._config.concurrency, len(prompts))):
                        group.create_task(worker())
            finally:
                watch.cancel()
                self._retries += connection.retries

    async def _call(self, connection: Connection, prompt: str) -> Reply | NoReply:
        self._calls += 1
        try:
            reply = _reply(await connection.post(_PATHS[self._config.endpoint], self._body(prompt)), connection)
        except CallFailed as failure:
            reason = connection.hidden(str(failure))
            if failure.status is None or failure.status == 429 or failure.status >= 500:
                self._in_a_row += 1  # other refusals are of the call
            if failure.status in _REFUSED:
                self._refusal = reason
            elif self._in_a_row >= _MOST_FAILED + self._config.concurrency:
                self._refusal = f"{self._in_a_row} calls in a row had failed, the last: {reason}"
            return NoReply(reason)
        self._in_a_row = 0
        return reply

    def _body(self, prompt: str) -> JsonObject:
        config = self._config
        asked: JsonObject = {"prompt": prompt}
        if config.endpoint == "chat":
            asked = {"messages": [{"role": "user", "content": prompt}]}
        return {
            "model": config.model,
            **asked,
            "max_tokens": config.max_new_tokens,
            "temperature": 0.0,
            "seed": config.seed,
        }


async def _watch() -> None:
    """End the loop soon after SIGTERM, whatever the calls wait for."""
    while True:
        await asyncio.sleep(_TICK_S)
        interruption.check()


def _url(config: ServerConfig) -> str:
    """Return the address; Unsupported for one that does not work."""
    if config.url is None:
        raise Unsupported("judge.url is missing: set judge.url=http://HOST:PORT")
    return base_url(config.url, "judge.url")


def _options(config: ServerConfig, url: str) -> ConnectionOptions:
    """Return the options of the calls; `timeout_s` is of a call with all its tries."""
    return ConnectionOptions(
        (url,),
        config.concurrency,
        tries=config.tries,
        timeout_s=config.timeout_s,
        key_variable=config.key_variable or "",
        deadline_s=config.timeout_s,
        prefix="judge",
        takes_proxies=True,
    )


def _reply(body: Any, connection: Connection) -> Reply:
    """Return the text of a reply of the API. Raises CallFailed for one of another form."""
    if isinstance(body, dict) and body.get("error"):
        raise CallFailed(f"an error with status 200: {' '.join(str(body['error']).split())[:200]}")
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    source, name = (message, "content") if isinstance(message, dict) else (choice, "text")
    text = source.get(name) if isinstance(source, dict) else None
    if not isinstance(text, str):
        raise CallFailed("the reply has no text: is judge.url that of an OpenAI-compatible server?")
    counts = body.get("usage")
    counts = counts if isinstance(counts, dict) else {}
    return Reply(connection.hidden(text), _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _check_reachable(url: str) -> None:
    """Raise UserError if nothing listens at the address; nothing is sent. Behind a proxy the calls themselves tell."""
    parts = urlsplit(url)
    if parts.scheme in getproxies() and not proxy_bypass(str(parts.hostname)):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            f"judge.url={url}: no server answers ({error.strerror or error}): start it, or correct the address"
        ) from error
