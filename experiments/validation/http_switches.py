"""The work of each switch of an evaluation over HTTP, with the switch on and off. Both give the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.tasks import extractive_qa, multiple_choice, questions
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.experiments.validation.http_servers import client, served_words, server
from runtime_matrix.experiments.validation.tasks.http_ablation import HTTP_SWITCHES, HttpAblationConfig
from runtime_matrix.runtimes.requests import RequestRuntime

_AT_ONCE = 64  # contexts per call of /loglikelihood
_MOST_REQUESTS = 4096  # that a server admits
_WAIT_S = 300.0
Work = tuple[Callable[[], Any], Callable[[], Any]]


@contextmanager
def opened_switches(bench: Bench, config: HttpAblationConfig) -> Iterator[Sequence[Switch]]:
    """Start the servers, connect the clients, and yield the switches in the order of the table."""
    with ExitStack() as opened:
        works = _Works(bench, config, opened)
        wanted = [name for name in HTTP_SWITCHES if (config.only or "") in name]
        yield [Switch(name, *works.of(name)) for name in wanted]


class _Works:
    """Servers are started, and clients connected, when the first switch needs them."""

    def __init__(self, bench: Bench, config: HttpAblationConfig, opened: ExitStack):
        self._bench, self._config, self._opened = bench, config, opened
        self._words = served_words(bench.command)
        self._text = bench.require_text()
        self._urls: dict[str, str] = {}
        self._clients: dict[tuple[str, str], RequestRuntime] = {}

    def of(self, name: str) -> Work:
        """Return the work of a switch, on and off."""
        scored, wrote, rows = self._scored, self._wrote, "serve.max_batch"
        many = {"concurrency": 32}
        works: dict[str, Callable[[], Work]] = {
            "requests per call, 64 instead of 8": lambda: (
                scored(requests_per_call=64, concurrency=1),
                scored(requests_per_call=8, concurrency=1),
            ),
            "requests per call, 256 instead of 64": lambda: (
                scored(requests_per_call=256, concurrency=1),
                scored(requests_per_call=64, concurrency=1),
            ),
            "engine limit, 32 rows instead of 4": lambda: (
                wrote(f"{rows}=32", **many),
                wrote(f"{rows}=4", **many),
            ),
            "tokenized requests": lambda: (wrote(tokenized=True), wrote(tokenized=False)),
            "four calls at once": lambda: (
                scored(requests_per_call=64, concurrency=4),
                scored(requests_per_call=64, concurrency=1),
            ),
            "four calls at once, behind a lock": lambda: (
                wrote("serve.lock=true", concurrency=4),
                wrote("serve.lock=true", concurrency=1),
            ),
            "no lock, four calls at once": lambda: (wrote(concurrency=4), wrote("serve.lock=true", concurrency=4)),
            "log-likelihood endpoint": lambda: (self._by_endpoint, scored(requests_per_call=_AT_ONCE, concurrency=1)),
            "keep-alive": lambda: (
                scored(requests_per_call=1, concurrency=1, keep_alive=True),
                scored(requests_per_call=1, concurrency=1, keep_alive=False),
            ),
            "no streaming": lambda: (wrote(streaming=False), wrote(streaming=True)),
            "in process, scores": lambda: (self._in_process, scored(requests_per_call=256, concurrency=1)),
            "in process, texts": lambda: (self._written_in_process, wrote()),
            "everything over HTTP": lambda: (
                scored(requests_per_call=256, concurrency=4),
                scored(requests_per_call=8, concurrency=1),
            ),
        }
        return works[name]()

    # Scores

    @cached_property
    def _requests(self) -> list[ScoreRequest]:
        """Return whole prompts: servers know no shared prefix."""
        task = multiple_choice.TASK
        data = questions.load(task.path(_Bundled), self._config.questions, 5)
        prompts = [
            multiple_choice.prompt(item, data.shots_by_subject[item.subject], "texts") for item in data.questions
        ]
        parts = [request for requests, _ in self._text.continuations(prompts) for request in requests]
        return [ScoreRequest((*part.prefix, *part.ids), len(part.prefix) + part.first_scored) for part in parts]

    def _scored(self, **options: Any) -> Callable[[], list[float]]:
        return partial(self._score, self._client("", **options))

    def _score(self, engine: RequestRuntime) -> list[float]:
        totals: dict[int, float] = {}
        for index, result in engine.score(self._requests):
            if not isinstance(result, Scored):
                raise RuntimeError(result.reason)
            totals[index] = result.total
        return [totals[index] for index in range(len(self._requests))]

    def _in_process(self) -> list[float]:
        bench = self._bench
        return [result.total for result in score(bench.require_steps(), bench.traits, self._requests, bench.scoring)]

    def _by_endpoint(self) -> list[float]:
        """Ask `/loglikelihood`, which shares what the requests have in common."""
        import httpx

        totals: list[float] = []
        with httpx.Client(base_url=self._url(""), timeout=_WAIT_S, trust_env=False) as connection:
            for start in range(0, len(self._requests), _AT_ONCE):
                bodies = [
                    {"context": list(one.ids[: one.first_scored]), "continuation": list(one.ids[one.first_scored :])}
                    for one in self._requests[start : start + _AT_ONCE]
                ]
                reply = connection.post("/loglikelihood", json=bodies)
                reply.raise_for_status()
                totals += [float(result["total"]) for result in reply.json()]
        return totals

    # Texts

    @cached_property
    def _prompts(self) -> list[GenerateRequest]:
        items = extractive_qa.load(extractive_qa.TASK.path(_Bundled), self._config.texts)
        tokens = self._config.new_tokens
        return [
            GenerateRequest(self._text.prompt(extractive_qa.prompt(item), tokens)[0], tokens, ignore_eos=True)
            for item in items
        ]

    def _wrote(self, *words: str, **options: Any) -> Callable[[], list[tuple[int, ...]]]:
        return partial(self._write, self._client(*(words or ("",)), **options))

    def _write(self, engine: RequestRuntime) -> list[tuple[int, ...]]:
        texts: dict[int, tuple[int, ...]] = {}
        for index, _, result in engine.generate(self._prompts):
            if not isinstance(result, Generated):
                raise RuntimeError(result.reason)
            texts[index] = result.ids
        return [texts[index] for index in range(len(self._prompts))]

    def _written_in_process(self) -> list[tuple[int, ...]]:
        bench = self._bench
        runtime, piecewise = bench.require_steps(), self._text.piecewise
        texts = generate(runtime, bench.traits, self._prompts, piecewise, (), GenerationConfig())
        return [text.ids for (text,) in texts]

    # Servers

    def _url(self, word: str) -> str:
        if word not in self._urls:
            own = ["serve.max_batch=8", f"serve.max_requests={_MOST_REQUESTS}"]
            words = [*self._words, *own, *([word] if word else [])]
            self._urls[word] = self._opened.enter_context(server(words, self._bench.folder / "server.log"))
        return self._urls[word]

    def _client(self, word: str, **options: Any) -> RequestRuntime:
        options = {"concurrency": 8, **options}
        key = word, repr(sorted(options.items()))
        if key not in self._clients:
            self._clients[key] = self._opened.enter_context(client(self._url(word), self._words, **options))
        return self._clients[key]


class _Bundled:
    """Options that name the bundled data."""

    data = "bundled"
