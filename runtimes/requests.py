"""The second interface: engines with a scheduler of their own, such as servers, which take whole requests.

Token ids in, log-probabilities or token ids with their arrival times out. Times are seconds of `time.perf_counter`.
Engines that compute one step at a time implement `base.Runtime`; the core gives them this face too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, TypeVar

from runtime_matrix.runtimes.base import Engine

T = TypeVar("T")
Results: TypeAlias = Generator[T, None, None]  # closing it cancels the requests that are left


@dataclass(frozen=True)
class ScoreRequest:
    """Scores the tokens of `ids` from index `first_scored` on, each given all tokens before it and the prefix.

    `first_scored` is at least 1, with a prefix too. Requests with the same prefix share it where that saves work.
    """

    ids: tuple[int, ...]
    first_scored: int
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scored:
    """The result of a ScoreRequest."""

    logprobs: tuple[float, ...]  # in nats, one per scored token
    top1_margins: tuple[float, ...]  # logit of the top token minus this token's; 0 if it is the top token

    @property
    def total(self) -> float:
        """Return the log-probability of all scored tokens together, in nats."""
        return sum(self.logprobs)


@dataclass(frozen=True)
class GenerateRequest:
    """Generates one text per seed after a shared prefill. Temperature 0 is greedy and ignores the seeds."""

    ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = (0,)
    ignore_eos: bool = False  # True: the end-of-text token ends no text, so that timed texts have equal lengths


@dataclass(frozen=True)
class Generated:
    """A generated text, without its prompt."""

    ids: tuple[int, ...]  # new tokens, without the end-of-text token
    text: str  # ends before the stop string
    finished_by: str  # "eos", "stop" or "length"


@dataclass(frozen=True)
class Failed:
    """A request without a result."""

    reason: str  # one line, such as "HTTP 429 after 5 tries"
    is_cancelled: bool = False  # True: the caller cancelled it


@dataclass(frozen=True)
class Usage:
    """Counts that a server reports of one request; None: not reported. They are compared with the client's own."""

    prompt_tokens: int | None = None
    new_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt, taken from a prefix cache


@dataclass(frozen=True)
class Capabilities:
    """What an engine does, found by asking it at load time: some servers ignore a field and answer 200."""

    takes_ids: bool = True  # token ids as a prompt
    returns_ids: bool = True  # ids of generated tokens
    prompt_logprobs: bool = True  # log-probabilities of the tokens of a prompt
    top_logprobs: int = 0  # most alternatives of a generated token whose log-probabilities are returned
    end_of_text: Literal["ignored", "banned", "ends"] = "ignored"  # effect of asking to ignore it
    seeds: bool = True  # equal seeds give equal samples
    streams: bool = True  # tokens arrive one by one
    caches_prefixes: bool | None = None  # a repeated prompt is reused; None: unknown
    reports_metrics: bool = False  # counters under /metrics
    reasons: Mapping[str, str] = field(default_factory=dict)  # by field: why a capability is missing


class Listener(Protocol):
    """Receives the events of one request, in order, from another thread. It must return at once."""

    def on_start(self, at_s: float) -> None:
        """The request was sent."""
        ...

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        """Tokens have arrived; several at once if the engine sends them together."""
        ...

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        """The request has ended. Called once, also after `cancel`."""
        ...


class Stream(Protocol):
    """A running request."""

    def cancel(self) -> None:
        """Stop the request; `on_end` follows with a `Failed` whose `is_cancelled` is set, unless it ended before."""
        ...


class RequestRuntime(Engine):
    """An engine that takes whole requests. Call `load` first and `close` last."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the engine was found to do when it was loaded."""

    @abstractmethod
    def score(self, requests: Sequence[ScoreRequest]) -> Results[tuple[int, Scored | Failed]]:
        """Yield (index of the request, result) as soon as each is known, in any order.

        Raises Unsupported if the engine gives no log-probabilities of prompts.
        """

    @abstractmethod
    def generate(self, requests: Sequence[GenerateRequest]) -> Results[tuple[int, int, Generated | Failed]]:
        """Yield (index of the request, index of its seed, text) as soon as each is finished, in any order."""

    @abstractmethod
    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        """Send a request with one seed at once and return; its events go to the listener."""

    waiting_metrics: Sequence[str] = ()  # names in `metrics` of the requests that wait; the first one present counts

    def metrics(self) -> Mapping[str, float]:
        """Return the server's own counters by name; empty if it reports none."""
        return {}
