"""What is asked of a runtime and what it answers, as plain data: benchmarks make and read these without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ScoreRequest:
    """The tokens from index `first_scored` of `ids` on are scored, each given all before it, the prefix too.

    Something comes before the first scored token: with a prefix at least one token of `ids`, so that `first_scored` is
    at least 1. Requests with the same prefix share it where that saves work.
    """

    ids: tuple[int, ...]
    first_scored: int
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scored:
    logprobs: tuple[float, ...]  # natural logarithm, one per scored token
    top1_margins: tuple[float, ...]  # how much more likely the runtime's own first choice was; 0 where it is this token

    @property
    def total(self) -> float:
        return sum(self.logprobs)


@dataclass(frozen=True)
class Continuations:
    """A context in two parts, of which many share the first, and what may come behind it."""

    prefix: str
    stem: str  # not empty
    endings: Sequence[str]

    @property
    def context(self) -> str:
        return self.prefix + self.stem

    def texts(self) -> list[str]:
        return [self.context, self.stem, *(self.stem + ending for ending in self.endings)]


@dataclass(frozen=True)
class GenerateRequest:
    """One text is generated per seed; they share the prompt's prefill. Temperature 0 is greedy: no seed is used."""

    ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Generated:
    ids: tuple[int, ...]  # new tokens, the end-of-text token left out
    text: str  # ends before the stop string
    finished_by: str  # "eos", "stop" or "length"


@dataclass(frozen=True)
class TextPrompt:
    """An item's prompt; its name seeds what is drawn for it."""

    id: str
    prompt: str


@dataclass(frozen=True)
class Decoding:
    """How texts are generated from prompts."""

    max_new_tokens: int
    stop: tuple[str, ...]
    samples: int = 1  # texts per prompt
    temperature: float = 0.0
    top_p: float = 1.0


class Tokenizer(Protocol):
    """Between text and token ids; see `evaluation/text.py`."""

    bos_id: int | None

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def piecewise(self, ids: Sequence[int]) -> Callable[[int], str]: ...

    def prompt(self, text: str, new_tokens: int) -> tuple[tuple[int, ...], bool]: ...

    def continuations(self, asked: Sequence[Continuations]) -> list[tuple[list[ScoreRequest], bool]]: ...
