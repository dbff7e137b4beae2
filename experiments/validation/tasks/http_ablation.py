"""The benchmark of the switches of an evaluation over HTTP: our own server, in child processes, over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.validation.tasks.switched import Opened, Switched

HTTP_SWITCHES = {  # name: key of the configuration, in the order of the table
    "requests per call, 64 instead of 8": "runtime.engine.requests_per_call",
    "requests per call, 256 instead of 64": "runtime.engine.requests_per_call",
    "engine limit, 32 rows instead of 4": "serve.max_batch, 32 texts in flight",
    "tokenized requests": "runtime.engine.tokenized",
    "four calls at once": "runtime.engine.concurrency, scores",
    "four calls at once, behind a lock": "runtime.engine.concurrency with serve.lock=true, texts",
    "no lock, four calls at once": "serve.lock=false, texts",
    "log-likelihood endpoint": "/loglikelihood against echo, 64 per call",
    "keep-alive": "runtime.engine.keep_alive, one score per call",
    "no streaming": "runtime.engine.streaming=false",
    "in process, scores": "this process against HTTP, 256 per call",
    "in process, texts": "this process against HTTP, 8 in flight",
    "everything over HTTP": "256 per call, four calls, ids (off: 8 per call, one call, ids)",
}


@dataclass(frozen=True, kw_only=True)
class HttpAblationConfig:
    """The options of the ablation over HTTP."""

    pairs: int = least(1)  # turns of on and off
    questions: int = least(8)
    texts: int = least(1)
    new_tokens: int = least(1)
    only: str | None = None  # switches whose name contains this text


class HttpAblation(Switched[HttpAblationConfig]):
    """Each switch of client and server, on and off."""

    name = "http_ablation"
    title = "HTTP ablation"
    data = "the bundled data"
    measures = "the factor that each switch of an evaluation over HTTP gives"
    position = 96
    Config = HttpAblationConfig
    switches = HTTP_SWITCHES
    heading = "What each switch of an evaluation over HTTP gives"
    conditions = (
        "The bundled model and data over loopback: `experiments.serve` in child processes, our client in this one, on "
        "against off in turns; client and server share the cores."
    )

    @override
    def options(self, config: HttpAblationConfig) -> tuple[int, str | None, JsonObject]:
        names = ("pairs", "questions", "texts", "new_tokens")
        return config.pairs, config.only, {name: getattr(config, name) for name in names}

    @override
    @contextmanager
    def opened(self, bench: Bench, config: HttpAblationConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.http_switches import opened_switches

        with opened_switches(bench, config) as switches:
            yield Opened(switches)


TASK = HttpAblation()
