"""Requests to a runtime and their results, as plain data that benchmarks use without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Listener, Scored, ScoreRequest, Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Continuations",
    "Decoding",
    "Failed",
    "GenerateRequest",
    "Generated",
    "Intake",
    "ObserveRequest",
    "Observed",
    "ScoreRequest",
    "Scored",
    "TextPrompt",
    "Tokenizer",
    "cut_context",
]


@dataclass(frozen=True)
class Continuations:
    """A context and the texts that may follow it. The context's `prefix` is shared by many items."""

    prefix: str
    stem: str  # the rest of the context; not empty
    endings: Sequence[str]  # the continuations

    @property
    def context(self) -> str:
        """Return prefix and stem as one text."""
        return self.prefix + self.stem

    def texts(self) -> list[str]:
        """Return the texts to tokenise: the context, the stem, and the stem with each ending."""
        return [self.context, self.stem, *(self.stem + ending for ending in self.endings)]


@dataclass(frozen=True)
class TextPrompt:
    """An item's prompt. Its id is part of the seed for sampling."""

    id: str
    prompt: str


@dataclass(frozen=True)
class Decoding:
    """Options for generating texts. Temperature 0 is greedy; `max_new_tokens` is per text."""

    max_new_tokens: int
    stop: tuple[str, ...]
    samples: int = 1  # texts per prompt
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True)
class ObserveRequest:
    """A prompt with a context and a given response, whose tokens are observed. ValueError for parts that do not fit.

    Token t is observed at the position that predicts it, t - 1. The last token is observed but never run.
    """

    ids: tuple[int, ...]  # the prompt, which includes the context, and the response
    context: range  # the tokens of the context; they come before the response
    first_scored: int  # index of the response's first token

    def __post_init__(self) -> None:
        context, first = self.context, self.first_scored
        if not (context.step == 1 and 0 <= context.start < context.stop <= first < len(self.ids)):
            raise ValueError(
                f"a context of {context} and a response from {first} are no parts of {len(self.ids)} tokens: "
                "the context has at least one token and ends before the response, which has at least one"
            )

    @property
    def tokens(self) -> int:
        """Return the number of tokens that are observed."""
        return len(self.ids) - self.first_scored


@dataclass(frozen=True, eq=False)
class Observed:
    """What a runtime shows while it reads a response: float32 per token T; see `runtimes.base.Outputs`.

    The heads H are those of all layers L: head h of layer l is column l * heads_per_layer + h.
    """

    logprobs_T: NDArray[np.float32]  # natural logarithms
    external_context_TH: NDArray[np.float32]
    parametric_knowledge_TL: NDArray[np.float32]  # nats
    heads_per_layer: int


def cut_context(
    ids: Sequence[int], context: range, first_scored: int, limit: int | None
) -> tuple[ObserveRequest, int] | None:
    """Return the request with the end of its context cut to the model's limit, and how many tokens were cut.

    The rest of the prompt and the response stay whole. `limit`: most tokens that a row may run; None: no limit. None
    if not even one token of the context fits.
    """
    surplus = 0 if limit is None else max(0, len(ids) - 1 - limit)  # the last token is never run
    if surplus >= len(context):
        return None
    end = context.stop - surplus
    kept = (*ids[:end], *ids[context.stop :])
    return ObserveRequest(kept, range(context.start, end), first_scored - surplus), surplus


class Intake(Protocol):
    """Takes requests while others are running."""

    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        """Start a request with one seed and return at once; its events go to the listener, from another thread."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return the engine's own counters by name; empty if it has none."""
        ...

    @property
    def waiting_metrics(self) -> Sequence[str]:
        """The names under which `metrics` may count the requests that wait; the first one present counts."""
        ...


class Tokenizer(Protocol):
    """Converts between text and token ids. `evaluation/text.py` implements it."""

    bos_id: int | None

    def encode(self, text: str) -> list[int]:
        """Return the ids without special tokens."""
        ...

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids as `encode` does, and the characters (start, end) of the text that each stands for."""
        ...

    @property
    def max_length(self) -> int | None:
        """The most tokens that the model takes; None if it states no limit."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text without special tokens."""
        ...

    def piecewise(self, ids: Sequence[int]) -> Callable[[int], str]:
        """Return a function that returns the text added by each further token after `ids`."""
        ...

    def prompt(self, text: str, new_tokens: int) -> tuple[tuple[int, ...], bool]:
        """Return the ids of a prompt that fits with its new tokens, and whether it was truncated on the left."""
        ...

    def continuations(self, contexts: Sequence[Continuations]) -> list[tuple[list[ScoreRequest], bool]]:
        """Return per context one request per ending, and whether the context was truncated on the left."""
        ...
