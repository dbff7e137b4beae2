"""HTTP calls to one or several servers: which server, retries, deadlines, limits. It knows nothing of models."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from runtime_matrix.runtimes.base import ReadOnlyJson, Unsupported

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0
_MOST_WAIT_S = 120.0  # that a server may ask for; a call fails if it asks for more
_CONNECT_S = 5.0
_MOST_BYTES = 256 << 20  # of a reply; a hostile server must not fill the memory
_KEY = "runtime.engine.url"
_BALANCES = ("round_robin", "least_connections")


class CallFailed(Exception):
    """A call without a reply. The message is one line."""

    def __init__(self, reason: str, status: int | None = None, retry_after_s: float | None = None):
        super().__init__(reason)
        self.status = status  # of HTTP; None: no answer
        self.retry_after_s = retry_after_s  # as the server asks for; None: it does not say


class _Closed(CallFailed):
    """The server closed the connection before it answered, as happens to one that was kept for long."""


@dataclass(frozen=True)
class ConnectionOptions:
    """Options of the calls. The API key is read from the environment, and is never part of a record."""

    urls: tuple[str, ...]
    concurrency: int = 8  # calls in flight
    keep_alive: bool = True  # False: a new connection for each call
    balance: str = "round_robin"  # or least_connections
    tries: int = 5
    timeout_s: float = 120.0  # per try
    key_variable: str = "OPENAI_API_KEY"
    deadline_s: float | None = None  # of a call with all its tries; None: as long as they take
    takes_proxies: bool = False  # of the environment; a proxy would be timed too
    prefix: str = "runtime.engine"  # where these options are configured, for messages

    def check(self) -> None:
        """Raise Unsupported, in one line, for options that do not work."""
        for name, least in (("concurrency", 1), ("tries", 1), ("timeout_s", 1e-3)):
            if getattr(self, name) < least:
                raise Unsupported(f"{self.prefix}.{name}={getattr(self, name)} must be at least {least:g}")
        if self.balance not in _BALANCES:
            raise Unsupported(f"{self.prefix}.balance={self.balance} is unknown: use {' or '.join(_BALANCES)}")
        if not (self.key.isascii() and self.key.isprintable()):
            raise Unsupported(f"the environment variable {self.key_variable} holds no API key: it has odd characters")

    @property
    def key(self) -> str:
        """Return the API key; empty without one."""
        return os.environ.get(self.key_variable, "").strip()


def base_urls(url: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the addresses without their `/v1`; Unsupported for one that is no http address or contains a password."""
    bases = [base_url(str(address), _KEY) for address in ([url] if isinstance(url, str) else url or ())]
    if not bases:
        raise Unsupported(f"set {_KEY}=http://HOST:PORT, or a list of addresses")
    return tuple(bases)


def base_url(address: str, key: str) -> str:
    """Return an address without its `/v1`; Unsupported as for `base_urls`. `key` is where it is configured."""
    if set("@?#") & set(address):  # not shown, whatever else is wrong with it
        raise Unsupported(f"{key} must not contain a password or a query: put the API key into the environment")
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address:
        raise Unsupported(f"{key}={address} is no address such as http://localhost:8000")
    return address.rstrip("/").removesuffix("/v1").rstrip("/")


class Connection:
    """Calls servers that serve the same model. Use it within one asyncio loop."""

    def __init__(self, options: ConnectionOptions):
        import httpx

        options.check()
        self._options = options
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._closed = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)  # by the server
        limit = options.concurrency if options.keep_alive else 0
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(options.timeout_s, connect=min(_CONNECT_S, options.timeout_s), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=limit),
            headers=_headers(options),
            trust_env=options.takes_proxies,
        )
        self._in_flight = [0] * len(options.urls)
        self._turn = 0
        self.calls = 0  # replies and failures
        self.retries = 0

    async def get(self, path: str, tries: int | None = None) -> Any:
        """Return the JSON of a reply, or its text if it is not JSON. Raises CallFailed."""
        return await self._retried("GET", path, None, tries)

    async def post(self, path: str, body: ReadOnlyJson, tries: int | None = None) -> Any:
        """Return the JSON of a reply. Raises CallFailed."""
        return await self._retried("POST", path, body, tries)

    async def events(self, path: str, body: ReadOnlyJson) -> AsyncGenerator[tuple[float, Any], None]:
        """Yield (time of arrival, JSON) of each event of a stream. Close it when it is not read to the end.

        There is no retry, except at once if a kept connection turns out to be closed. Raises CallFailed.
        """
        try:
            async with aclosing(self._events(path, body)) as events:
                async for event in events:
                    yield event
            return
        except _Closed:
            if not self._options.keep_alive:
                raise
        self.retries += 1
        async with aclosing(self._events(path, body)) as events:
            async for event in events:
                yield event

    async def _events(self, path: str, body: ReadOnlyJson) -> AsyncGenerator[tuple[float, Any], None]:
        deadline = time.perf_counter() + self._options.timeout_s
        async with self._opened("POST", path, body) as response:
            pending = b""
            async for part in response.aiter_raw():
                at_s = time.perf_counter()
                *lines, pending = (pending + part).split(b"\n")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    content = line[5:].strip()
                    if content != b"[DONE]":
                        yield at_s, _json(content)
                if at_s > deadline:  # a stall between two parts ends by itself
                    raise CallFailed(f"the stream did not end within {self._options.timeout_s:g} s")
                if len(pending) > _MOST_BYTES:
                    raise CallFailed("an event of the stream is too long")

    def hidden(self, message: str) -> str:
        """Return a message of a server without the API key, which some repeat."""
        return message.replace(self._options.key, "***") if self._options.key else message

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _retried(self, method: str, path: str, body: ReadOnlyJson | None, tries: int | None) -> Any:
        tries, wait_s, deadline_s = tries or self._options.tries, _FIRST_WAIT_S, self._options.deadline_s
        ends_at = None if deadline_s is None else time.monotonic() + deadline_s
        for attempt in range(1, tries + 1):
            try:
                async with asyncio.timeout(None if ends_at is None else ends_at - time.monotonic()):
                    return await self._call(method, path, body)
            except TimeoutError:
                raise CallFailed(f"no reply within {deadline_s:g} s{_after(attempt)}") from None
            except CallFailed as failure:
                # Jitter, so that many clients do not come back together; never earlier than the server asks for.
                pause_s = wait_s * random.uniform(0.5, 1.0)
                if failure.retry_after_s is not None:
                    pause_s = failure.retry_after_s + min(1.0, failure.retry_after_s) * random.uniform(0.0, 0.5)
                is_final = attempt == tries or (failure.status is not None and failure.status not in _RETRIED)
                if is_final or pause_s > _MOST_WAIT_S or (ends_at is not None and time.monotonic() + pause_s > ends_at):
                    raise CallFailed(f"{failure}{_after(attempt)}", failure.status) from None
            self.retries += 1
            await asyncio.sleep(pause_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        raise AssertionError("unreachable")

    async def _call(self, method: str, path: str, body: ReadOnlyJson | None) -> Any:
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._options.timeout_s), self._opened(method, path, body) as response:
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _MOST_BYTES:
                        raise CallFailed(f"the reply of {path} is larger than {_MOST_BYTES >> 20} MiB")
                is_json = "json" in response.headers.get("content-type", "json")
        except TimeoutError:
            raise CallFailed(f"no reply within {self._options.timeout_s:g} s") from None
        content = b"".join(parts)
        return _json(content) if is_json else content.decode(errors="replace")

    @asynccontextmanager
    async def _opened(self, method: str, path: str, body: ReadOnlyJson | None) -> AsyncIterator[Any]:
        """Open a call and yield its response, whose status is 200."""
        server = self._next_server()
        self._in_flight[server] += 1
        url, is_answered = self._options.urls[server], False
        try:
            async with self._client.stream(method, url + path, json=body) as response:
                is_answered = True
                if response.status_code != 200:
                    wait_s = _retry_after_s(response.headers.get("retry-after"))
                    raise CallFailed(self.hidden(await _refusal(response)), response.status_code, wait_s)
                yield response
        except self._errors as error:
            kind = _Closed if isinstance(error, self._closed) and not is_answered else CallFailed
            raise kind(self.hidden(_broken(error, url))) from None
        finally:
            self._in_flight[server] -= 1
            self.calls += 1

    def _next_server(self) -> int:
        if self._options.balance == "least_connections":
            return min(range(len(self._in_flight)), key=lambda server: (self._in_flight[server], server))
        self._turn = (self._turn + 1) % len(self._in_flight)
        return self._turn


def _headers(options: ConnectionOptions) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # events are read as they arrive, and unpacking would be timed
    if not options.keep_alive:
        headers["Connection"] = "close"
    return headers | ({"Authorization": f"Bearer {options.key}"} if options.key else {})


def _after(attempt: int) -> str:
    return f" after {attempt} tries" if attempt > 1 else ""


def _retry_after_s(header: str | None) -> float | None:
    """Return the wait of a Retry-After header, which is seconds or a date (RFC 9110, section 10.2.3); None without."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


async def _refusal(response: Any) -> str:
    """Return the status and the server's message in one line."""
    if response.is_redirect:
        return f"HTTP {response.status_code}: a redirect to {response.headers.get('location')}, which is not followed"
    content = b""
    async for part in response.aiter_bytes():
        content += part
        if len(content) > 1 << 16:
            break
    try:
        body = json.loads(content)
        error = body.get("error", body) if isinstance(body, dict) else body
        message = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        message = content.decode(errors="replace")
    line = " ".join(str(message).split())[:200]
    return f"HTTP {response.status_code}: {line}" if line else f"HTTP {response.status_code}"


def _broken(error: Exception, url: str) -> str:
    name = type(error).__name__
    if name in ("ConnectError", "ConnectTimeout"):
        return f"no server answers at {url}"
    if name in ("ReadTimeout", "WriteTimeout"):
        return f"{url} stalled"
    text = " ".join(str(error).split())[:200]
    return f"the connection to {url} broke: {text or name}"


def _json(content: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallFailed(f"the reply is not JSON: {error}") from None
