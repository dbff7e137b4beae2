"""Any server with the OpenAI API as an engine: it takes whole requests, and is asked at load what it can do."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported
from runtime_matrix.runtimes.engines.server import calls, probing
from runtime_matrix.runtimes.engines.server.connection import CallFailed, Connection, ConnectionOptions, base_urls
from runtime_matrix.runtimes.engines.server.loop import Loop
from runtime_matrix.runtimes.engines.server.messages import Dialect
from runtime_matrix.runtimes.requests import (
    Capabilities,
    Failed,
    Generated,
    GenerateRequest,
    Listener,
    RequestRuntime,
    Scored,
    ScoreRequest,
    Stream,
)
from runtime_matrix.runtimes.weights.packages import import_all, require

_PROBES, _PROBE_TOKENS = 12, 16
_FIRST_ID = 8  # lower ids are often special tokens


class OpenAIServer(RequestRuntime):
    """A client of servers that serve one model.

    `url` may be a list: calls are spread by `balance`. `tokenized` sends prompts as ids, otherwise as text.
    `streaming` takes generated texts from streams; otherwise `requests_per_call` prompts share a call. The API key is
    read from the environment variable `key_variable`.
    """

    is_remote = True
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
    ):
        self._dtype, self._url, self._model = dtype, url, model
        self._requests_per_call, self._tokenized, self._streaming = requests_per_call, tokenized, streaming
        self._prefix_cache = prefix_cache
        self._options = (concurrency, keep_alive, balance, tries, timeout_s, key_variable)
        self._loop: Loop | None = None
        self._calls: calls.Calls | None = None
        self._capabilities: Capabilities | None = None

    @override
    def check(self, hw: Hardware) -> None:
        require("httpx", "server")
        base_urls(self._url)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        return self._connect(base_urls(self._url), self._model, model, phase)

    @property
    @override
    def capabilities(self) -> Capabilities:
        assert self._capabilities is not None, "call load first"
        return self._capabilities

    @override
    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, Scored | Failed]]:
        loop, client, can = self._loaded()
        at_once = self._options[0]
        if can.prompt_logprobs:
            yield from loop.run_all(client.score, calls.score_groups(requests, self._requests_per_call), at_once)
        elif can.top_logprobs and all(request.first_scored == len(request.ids) - 1 for request in requests):
            yield from loop.run_all(client.score_next, calls.next_token_groups(requests), at_once)
        else:
            raise Unsupported(can.reasons["prompt_logprobs"])

    @override
    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, int, Generated | Failed]]:
        loop, client, can = self._loaded()
        if not can.seeds and any(request.temperature > 0 for request in requests):
            raise Unsupported(can.reasons["seeds"])
        is_streamed = self._streaming and can.streams
        groups = calls.text_groups(requests, 1 if is_streamed else self._requests_per_call)
        yield from loop.run_all(client.streamed if is_streamed else client.generate, groups, self._options[0])

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
        if self._calls is None:
            return {}
        return {"calls": self._calls.connection.calls, "retries": self._calls.connection.retries}

    @override
    def close(self) -> None:
        loop, client, self._loop, self._calls = self._loop, self._calls, None, None
        if loop is not None:
            if client is not None:
                loop.run(client.connection.close())
            loop.close()

    def _connect(self, urls: tuple[str, ...], wanted: str | None, source: ModelSource, phase: Phase) -> Traits:
        """Connect to running servers, ask what they can do, and return the traits."""
        with phase("import"):
            import_all(("httpx",))
        self._loop = Loop()
        with phase("connect"):
            try:
                return self._loop.run(self._probed(urls, wanted, source))
            except CallFailed as failure:
                raise Unsupported(f"the server generates nothing: {failure}") from None

    async def _probed(self, urls: tuple[str, ...], wanted: str | None, source: ModelSource) -> Traits:
        connection = Connection(ConnectionOptions(urls, *self._options))
        served = await probing.served_model(connection, wanted, self._options[-1])
        vocabulary, tokenizer = _vocabulary(source), _tokenizer(source)
        if tokenizer is not None:
            await probing.check_tokenizer(connection, served.name, lambda text: tokenizer.encode(text).ids)
        elif not self._tokenized:
            raise Unsupported("runtime.engine.tokenized=false needs a model with a tokenizer")
        draw = random.Random(0)
        prompts = [
            [draw.randrange(min(_FIRST_ID, vocabulary - 1), vocabulary) for _ in range(_PROBE_TOKENS)]
            for _ in range(_PROBES)
        ]
        fields = {} if self._prefix_cache else {"cache_prompt": False}
        dialect, can = await probing.Probe(connection, served.name, prompts, fields).run()
        self._capabilities = can
        prompt = list if self._tokenized and can.takes_ids else _as_text(tokenizer, can)
        self._calls = calls.Calls(connection, dialect, prompt, can.top_logprobs)
        return self._traits(served, source, vocabulary, dialect, can)

    def _traits(
        self, served: probing.Served, source: ModelSource, vocabulary: int, dialect: Dialect, can: Capabilities
    ) -> Traits:
        missing = [f"{name}: {reason}" for name, reason in can.reasons.items()]
        return Traits(
            vocabulary=vocabulary,
            max_length=served.max_length or _configuration(source).get("max_position_embeddings"),
            dtype=self._dtype,
            weight_bytes=None,
            outputs=frozenset(),
            notes=(f"ids of new tokens from {dialect.id_source}", f"end of text {can.end_of_text}", *missing),
            caches_prompts=can.caches_prefixes is not False,
        )

    def _loaded(self) -> tuple[Loop, calls.Calls, Capabilities]:
        assert self._loop is not None, "call load first"
        assert self._calls is not None
        return self._loop, self._calls, self.capabilities


def _configuration(source: ModelSource) -> Mapping[str, Any]:
    if source.architecture is not None:
        return source.architecture
    assert source.folder is not None
    path = source.folder / "config.json"
    if not path.is_file():
        raise Unsupported(f"{source.folder} has no config.json: set model.path to the folder of the served model")
    configuration: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return configuration


def _vocabulary(source: ModelSource) -> int:
    return int(_configuration(source)["vocab_size"])


def _tokenizer(source: ModelSource) -> Any:
    """Return the tokenizer of the model's folder; None without one."""
    from tokenizers import Tokenizer

    file = source.folder / "tokenizer.json" if source.folder is not None else Path("/nonexistent")
    return Tokenizer.from_file(str(file)) if file.is_file() else None


def _as_text(tokenizer: Any, can: Capabilities) -> calls.Prompt:
    """Return what turns ids into the text that gives them again, without the special tokens that servers add."""
    if tokenizer is None:
        raise Unsupported(f"{can.reasons['takes_ids']}, and the model has no tokenizer")

    def text(ids: Sequence[int]) -> str:
        decoded: str = tokenizer.decode(list(ids), skip_special_tokens=True)
        if tokenizer.encode(decoded).ids != list(ids):
            raise CallFailed("the prompt's ids are not those of its text, and it must be sent as text")
        return decoded

    return text


def _metrics(text: str) -> dict[str, float]:
    """Return the counters of a page in Prometheus format, those with the same name added up."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition("{")[0].strip().rpartition(" ") if "{" not in line else _labelled(line)
        if name and not name.startswith("#"):
            try:
                values[name] = values.get(name, 0.0) + float(value)
            except ValueError:
                continue
    return values


def _labelled(line: str) -> tuple[str, str, str]:
    name, _, rest = line.partition("{")
    return name.strip(), "", rest.rpartition("}")[2].strip().split(" ")[0]
