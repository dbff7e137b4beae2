"""The routes of the server. Each refusal is in the form of the OpenAI API."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from runtime_matrix.experiments.serving import metrics
from runtime_matrix.experiments.serving.answering import answer, stream
from runtime_matrix.experiments.serving.errors import ApiError
from runtime_matrix.experiments.serving.fields import Fields, parse
from runtime_matrix.experiments.serving.likelihoods import loglikelihood
from runtime_matrix.experiments.serving.options import ServeConfig
from runtime_matrix.experiments.serving.questions import Question, chat, check_model, completion
from runtime_matrix.experiments.serving.served import Served

_FAILING = (
    3  # steps in a row that failed: as after an error of a GPU, which all later calls repeat until the process ends
)
Handler = Callable[[Request], Awaitable[Response]]


def make_app(served: Served, config: ServeConfig) -> Starlette:
    """Return the ASGI application."""
    routes = Routes(served, config)
    paths: list[tuple[str, str, Handler]] = [
        ("/v1/completions", "POST", routes.completions),
        ("/v1/chat/completions", "POST", routes.chat),
        ("/v1/models", "GET", routes.models),
        ("/tokenize", "POST", routes.tokenize),
        ("/detokenize", "POST", routes.detokenize),
        ("/loglikelihood", "POST", routes.loglikelihood),
        ("/metrics", "GET", routes.metrics),
    ]
    return Starlette(
        routes=[
            *(Route(path, routes.guarded(handler), methods=[method]) for path, method, handler in paths),
            Route("/health", routes.health, methods=["GET"]),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _not_found},
    )


class Routes:
    """The handlers of one served model."""

    def __init__(self, served: Served, config: ServeConfig):
        self._served, self._most_bytes, self._key = served, config.max_body_bytes, config.api_key

    def guarded(self, handler: Handler) -> Handler:
        """Return a handler that asks for the API key."""

        async def checked(request: Request) -> Response:
            if self._key is not None:
                given = request.headers.get("authorization", "").removeprefix("Bearer ")
                if not hmac.compare_digest(given.encode(), self._key.encode()):
                    raise ApiError("the API key is missing or wrong: send it as Authorization: Bearer KEY", status=401)
            return await handler(request)

        return checked

    async def completions(self, request: Request) -> Response:
        """Answer /v1/completions."""
        return await self._answered(request, completion)

    async def chat(self, request: Request) -> Response:
        """Answer /v1/chat/completions."""
        return await self._answered(request, chat)

    async def models(self, request: Request) -> Response:
        """Answer /v1/models."""
        model = {
            "id": self._served.name,
            "object": "model",
            "created": 0,
            "owned_by": "runtime-matrix",
            "max_model_len": self._served.max_length,
        }
        return _json({"object": "list", "data": [model]})

    async def tokenize(self, request: Request) -> Response:
        """Answer /tokenize, in vLLM's form or llama.cpp's."""
        fields = Fields(await self._body(request))
        check_model(fields, self._served)
        text, other = fields.text("prompt"), fields.text("content")
        flags = [fields.flag(name, True) for name in ("add_special_tokens", "add_special")]
        fields.refuse_rest()
        if text is None and other is None:
            raise ApiError("prompt is missing: send a text", param="prompt")
        ids = self._served.encode(text if text is not None else str(other), with_bos=all(flags))
        return _json({"count": len(ids), "max_model_len": self._served.max_length, "tokens": list(ids)})

    async def detokenize(self, request: Request) -> Response:
        """Answer /detokenize."""
        fields = Fields(await self._body(request))
        check_model(fields, self._served)
        ids = fields.raw("tokens")
        fields.refuse_rest()
        if not isinstance(ids, list):
            raise ApiError("tokens must be a list of token ids", param="tokens")
        self._served.tokenizer("/detokenize")
        return _json({"prompt": self._served.decode(self._served.check_ids(ids, "tokens"))})

    async def loglikelihood(self, request: Request) -> Response:
        """Answer /loglikelihood."""
        return _json(await loglikelihood(await self._body(request), self._served))

    async def health(self, request: Request) -> Response:
        """Answer /health: 200 if requests are taken and the runtime computes, else 503."""
        scheduler = self._served.scheduler
        if not scheduler.is_alive:
            return _json({"status": "stopping"}, 503)
        is_failing = scheduler.counts.consecutive_failures >= _FAILING
        return _json({"status": "failing" if is_failing else "ok"}, 503 if is_failing else 200)

    async def metrics(self, request: Request) -> Response:
        """Answer /metrics."""
        return Response(metrics.page(self._served.scheduler), media_type="text/plain; version=0.0.4")

    async def _answered(self, request: Request, read: Callable[[Any, Served], Question]) -> Response:
        question = read(await self._body(request), self._served)
        if question.stream:
            events = stream(question, self._served)
            return _EventStream(await anext(events), events)  # what is refused is refused with a status
        work = asyncio.ensure_future(answer(question, self._served))
        left = asyncio.ensure_future(_has_left(request.receive))
        try:
            await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ApiError("the client has left", status=499)
            return _json(work.result())
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.gather(work, left, return_exceptions=True)

    async def _body(self, request: Request) -> Any:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self._most_bytes:
                raise ApiError(f"the body has more than serve.max_body_bytes={self._most_bytes} bytes", status=413)
        return parse(bytes(content))


class _EventStream(Response):
    """Sends events until they end or the client leaves."""

    def __init__(self, first: bytes, events: AsyncIterator[bytes]):
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._first, self._events = first, events

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        left = asyncio.ensure_future(_has_left(receive))
        try:
            await asyncio.wait((sending, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, left):
                task.cancel()
            await asyncio.gather(sending, left, return_exceptions=True)
            await self._events.aclose()  # type: ignore[attr-defined]

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _has_left(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.body(), error.status)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = ApiError(f"{request.method} {request.url.path}: {error.detail}", error.status_code)
    return _json(refusal.body(), error.status_code)
