"""Any server with the OpenAI API as an engine: it takes whole requests, and is asked at load what it can do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar

from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported
from runtime_matrix.runtimes.engines.server import calls, probing
from runtime_matrix.runtimes.engines.server.loop import Loop
from runtime_matrix.runtimes.engines.server.messages import Dialect
from runtime_matrix.runtimes.engines.server.tokens import check_tokenizer, read_tokens
from runtime_matrix.runtimes.http_calls import CallFailed, Connection, ConnectionOptions, base_urls
from runtime_matrix.runtimes.requests import (
    Capabilities,
    Failed,
    Generated,
    GenerateRequest,
    Listener,
    RequestRuntime,
    Results,
    Scored,
    ScoreRequest,
    Stream,
)
from runtime_matrix.runtimes.weights.packages import import_all, require

_SAMPLE = re.compile(
    r"^([a-zA-Z_:][\w:]*)(?:\{.*\})? +([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)", re.MULTILINE
)  # name{labels} value
_SHORTEST = 1024  # tokens, where neither the server nor the model tells its length


class OpenAIServer(RequestRuntime):
    """A client of servers that serve one model.

    An adapter is asked for by its name, in the field `model`, unless the option `model` says another. `url` may be a
    list: calls are spread by `balance`. `tokenized` sends prompts as ids, otherwise as text. `streaming` takes
    generated texts from streams; otherwise `requests_per_call` prompts share a call. `scoring_concurrency` is the
    number of calls in flight that score; 1 also sends one prompt per call. The API key is read from the environment
    variable `key_variable`.
    """

    is_remote = True
    adapter_modes = frozenset({"beside"})  # the server holds adapters by their names
    distributions: ClassVar[tuple[str, ...]] = ("httpx",)
    waiting_metrics = ("llamacpp:requests_deferred", "vllm:num_requests_waiting", "sglang:num_queue_reqs")

    def __init__(
        self,
        dtype: str = "float32",
        url: str | Sequence[str] | None = None,
        model: str | None = None,
        requests_per_call: int = 1,
        concurrency: int = 8,
        tokenized: bool = True,
        streaming: bool = False,
        prefix_cache: bool = True,
        keep_alive: bool = True,
        balance: str = "round_robin",
        tries: int = 5,
        timeout_s: float = 120.0,
        key_variable: str = "OPENAI_API_KEY",
        scoring_concurrency: int | None = None,
    ):
        self._dtype, self._url, self._model = dtype, url, model
        self._requests_per_call, self._tokenized, self._streaming = requests_per_call, tokenized, streaming
        self._prefix_cache, self._scoring_concurrency = prefix_cache, scoring_concurrency
        self._options = ConnectionOptions((), concurrency, keep_alive, balance, tries, timeout_s, key_variable)
        self._loop: Loop | None = None
        self._connection: Connection | None = None
        self._calls: calls.Calls | None = None
        self._capabilities: Capabilities | None = None

    @override
    def check(self, hw: Hardware) -> None:
        self.check_options()
        base_urls(self._url)

    def check_options(self) -> None:
        """Raise Unsupported if an option of the client does not work, or its package is missing."""
        require("httpx", "server")
        self._options.check()
        if self._requests_per_call < 1:
            raise Unsupported(f"runtime.engine.requests_per_call={self._requests_per_call} must be at least 1")
        if self._scoring_concurrency is not None and self._scoring_concurrency < 1:
            raise Unsupported(f"runtime.engine.scoring_concurrency={self._scoring_concurrency} must be at least 1")

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        return self._connect(base_urls(self._url), self._model or _adapter_name(model), model, phase)

    @property
    @override
    def capabilities(self) -> Capabilities:
        assert self._capabilities is not None, "call load first"
        return self._capabilities

    @override
    def score(self, requests: Sequence[ScoreRequest]) -> Results[tuple[int, Scored | Failed]]:
        loop, client, can = self._loaded()
        at_once = self._scoring_concurrency or self._options.concurrency
        if can.prompt_logprobs:
            prompts = 1 if self._scoring_concurrency == 1 else self._requests_per_call
            yield from loop.run_all(client.score, calls.score_groups(requests, prompts), at_once)
        elif can.top_logprobs and all(request.first_scored == len(request.ids) - 1 for request in requests):
            yield from loop.run_all(client.score_next, calls.next_token_groups(requests), at_once)
        else:
            raise Unsupported(can.reasons["prompt_logprobs"])

    @override
    def generate(self, requests: Sequence[GenerateRequest]) -> Results[tuple[int, int, Generated | Failed]]:
        loop, client, can = self._loaded()
        if not can.seeds and any(request.temperature > 0 for request in requests):
            raise Unsupported(can.reasons["seeds"])
        is_streamed = self._streaming and can.streams
        groups = calls.text_groups(requests, 1 if is_streamed else self._requests_per_call)
        yield from loop.run_all(client.streamed if is_streamed else client.generate, groups, self._options.concurrency)

    @override
    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        loop, client, _ = self._loaded()
        return loop.begin(client.stream(request, listener))

    @override
    def metrics(self) -> Mapping[str, float]:
        if self._loop is None or self._calls is None or not self.capabilities.reports_metrics:
            return {}
        return _metrics(str(self._loop.run(self._calls.connection.get("/metrics"))))

    @override
    def counters(self) -> dict[str, int]:
        if self._connection is None:
            return {}
        return {"calls": self._connection.calls, "retries": self._connection.retries}

    @override
    def close(self) -> None:
        loop, connection = self._loop, self._connection
        self._loop = self._connection = self._calls = None
        if loop is not None:
            loop.close(connection.aclose() if connection is not None else None)

    def _connect(self, urls: tuple[str, ...], wanted: str | None, source: ModelSource, phase: Phase) -> Traits:
        """Connect to running servers, ask what they can do, and return the traits."""
        with phase("import"):
            import_all(("httpx",))
        self._loop = Loop()
        with phase("connect"):
            try:
                return self._loop.run(self._probed(urls, wanted, source))
            except CallFailed as failure:
                otherwise = f"the server generates nothing: {failure}"
                raise probing.refused(failure, self._options.key_variable, otherwise) from None

    async def _probed(self, urls: tuple[str, ...], wanted: str | None, source: ModelSource) -> Traits:
        for url in urls:
            async with aclosing(Connection(replace(self._options, urls=(url,)))) as server:
                served = await probing.served_model(server, wanted, self._options.key_variable)
            wanted = served.name  # by all of them
        self._connection = connection = Connection(replace(self._options, urls=urls))
        tokens = read_tokens(source)
        if tokens.tokenizer is not None:
            await check_tokenizer(connection, served.name, tokens)
        elif not self._tokenized:
            raise Unsupported("runtime.engine.tokenized=false needs a model with a tokenizer")
        max_length = served.max_length or tokens.max_length
        fields = {} if self._prefix_cache else {"cache_prompt": False}
        probe = probing.Probe(connection, served.name, tokens, max_length or _SHORTEST, fields)
        dialect, self._capabilities = await probe.run()
        prompt = list if self._tokenized and self._capabilities.takes_ids else tokens.text
        self._calls = calls.Calls(connection, dialect, prompt, self._capabilities.top_logprobs)
        return self._traits(tokens.vocabulary, max_length, dialect)

    def _traits(self, vocabulary: int, max_length: int | None, dialect: Dialect) -> Traits:
        can = self.capabilities
        found = (
            [f"ids of new tokens from {dialect.id_source}", f"end of text {can.end_of_text}"] if can.returns_ids else []
        )
        missing = [f"{name}: {reason}" for name, reason in can.reasons.items()]
        return Traits(
            vocabulary=vocabulary,
            max_length=max_length,
            dtype=self._dtype,
            weight_bytes=None,
            outputs=frozenset(),
            notes=(*found, *missing),
            caches_prompts=can.caches_prefixes is not False,
        )

    def _loaded(self) -> tuple[Loop, calls.Calls, Capabilities]:
        assert self._loop is not None, "call load first"
        assert self._calls is not None
        return self._loop, self._calls, self.capabilities


def _adapter_name(model: ModelSource) -> str | None:
    return None if model.adapter is None else model.adapter.name


def _metrics(page: str) -> dict[str, float]:
    """Return the counters of a page in Prometheus format, those with the same name added up."""
    values: dict[str, float] = {}
    for name, value in _SAMPLE.findall(page):
        values[name] = values.get(name, 0.0) + float(value)
    return values
