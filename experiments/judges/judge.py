"""The contract of a judge: one file, in this folder or in another package, that declares all of it.

The file defines a subclass of `Knowing` (it gives scores by itself) or of `Asking` (a model is asked by a prompt, and
its reply is read) and binds an instance to `JUDGE`. Its options are documented in `conf/judge/NAME.yaml`. A judge knows
neither the benchmark nor the runtime whose answers it judges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least, outside_identity
from runtime_matrix.experiments.judges.templates import read_template

C = TypeVar("C")  # the dataclass of a judge's options
Failure = Literal["call failed", "not asked", "unparsable", "out of range"]
FAILURES: tuple[Failure, ...] = get_args(Failure)
REFERENCE = "reference"  # what a pairwise judge compares with, if not with another cell's answers


@dataclass(frozen=True)
class Question:
    """An item with the answer that is judged."""

    id: str
    question: str
    answer: str
    references: tuple[str, ...]  # right answers; empty if none is known
    is_right: bool | None = None  # the benchmark's own verdict; None: it has none. No judge that asks sees it
    cluster: str | None = None  # items of one cluster are not independent


@dataclass(frozen=True)
class Reply:
    """What a model replied, and what it cost. None: not reported."""

    text: str
    prompt_tokens: int | None = None
    new_tokens: int | None = None


@dataclass(frozen=True)
class NoReply:
    """A call without a reply, with its reason in one line."""

    reason: str
    failure: Failure = "call failed"


OnReply: TypeAlias = Callable[[int, Reply | NoReply], None]  # (index of the prompt, reply)


class Asker(Protocol):
    """An opened model that judges."""

    @property
    def identity(self) -> JsonObject:
        """Everything that its replies may depend on besides the prompt: equal identities share kept replies."""
        ...

    def ask(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        """Ask by all prompts, and call `on_reply` once for each as soon as it is answered or has failed."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Return its counters, such as `retries`."""
        ...


class LocalModel(Protocol):
    """A model that is loaded in this process."""

    @property
    def identity(self) -> JsonObject:
        """Digest of the model, runtime and versions."""
        ...

    def generate(self, prompts: Sequence[str], max_new_tokens: int, on_reply: OnReply) -> None:
        """Continue each prompt greedily, up to the end of the line."""
        ...


OpenLocal: TypeAlias = Callable[[str, str], AbstractContextManager[LocalModel]]  # (runtime, model: bundled or a folder)


class Judge(ABC, Generic[C]):
    """A judge with options `C`."""

    name: ClassVar[str]
    about: ClassVar[str]  # one sentence, for tables
    Config: ClassVar[type[Any]]

    def check(self, config: C) -> None:
        """Raise UserError for options that do not work. Called before anything is loaded or asked."""


class Knowing(Judge[C]):
    """A judge that gives scores by itself."""

    @abstractmethod
    def score(self, question: Question, config: C) -> float | None:
        """Return a score from 0 to 1; at least one half says that the answer is right. None: it cannot tell."""


@dataclass(frozen=True, kw_only=True)
class AskingConfig:
    """Options that every judge has which asks a model."""

    template: str
    lowest: float
    highest: float
    right_from: float
    words: dict[str, float] | None
    against: str
    max_new_tokens: int = least(1)
    seed: int = least(0, most=2**31 - 1)
    repeats: int = least(1)
    cache: bool = outside_identity()


A = TypeVar("A", bound=AskingConfig)


class Asking(Judge[A]):
    """A judge that asks a model."""

    @abstractmethod
    def opened(self, config: A, open_local: OpenLocal) -> AbstractContextManager[Asker]:
        """Open the model; `open_local` loads one in this process."""

    @override
    def check(self, config: A) -> None:
        template = read_template(config.template)
        if not config.lowest < config.highest:
            raise UserError(f"judge.lowest={config.lowest:g} must be below judge.highest={config.highest:g}")
        if not config.lowest < config.right_from <= config.highest:
            raise UserError(
                f"judge.right_from={config.right_from:g} must be above judge.lowest={config.lowest:g} and at most "
                f"judge.highest={config.highest:g}"
            )
        for word, score in (config.words or {}).items():
            if not word.strip() or not config.lowest <= score <= config.highest:
                raise UserError(
                    f"judge.words.{word}={score:g} must be a word with a score from {config.lowest:g} to "
                    f"{config.highest:g}"
                )
        if config.against == REFERENCE:
            return
        if not template.is_pairwise:
            raise UserError(
                f"judge.against={config.against} would be ignored: judge.template={config.template} compares no two "
                "answers; add judge.template=pairwise"
            )
        if not Path(config.against).expanduser().is_dir():
            raise UserError(
                f"judge.against={config.against} is no folder: give that of a record whose answers were scored, or "
                "reference"
            )
