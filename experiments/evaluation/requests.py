"""Requests to a runtime and their results, as plain data that benchmarks use without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Listener, Scored, ScoreRequest, Stream

__all__ = [
    "Continuations",
    "Decoding",
    "Failed",
    "GenerateRequest",
    "Generated",
    "Intake",
    "ScoreRequest",
    "Scored",
    "TextPrompt",
    "Tokenizer",
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
