"""What a benchmark may use while it runs: the model's tokenizer, scores, texts, timers, and its entry in the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import AgreementConfig, RuntimeConfig, SandboxConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.requests import (
    Decoding,
    Generated,
    GenerateRequest,
    Scored,
    ScoreRequest,
    TextPrompt,
    Tokenizer,
)
from runtime_matrix.experiments.measurement.clocks import StepTimer
from runtime_matrix.runtimes.base import Runtime, Traits

T = TypeVar("T")
Figures = dict[str, float | str | None]  # of an entry
OnText = Callable[[int, int, Generated], None]  # item, sample, text


@dataclass
class OpenEntry:
    """What one grid point of a benchmark leaves in the record, while it runs; see `schema.Entry`."""

    benchmark: str
    case: str = ""
    parameters: JsonObject = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)  # raw times in s
    figures: JsonObject = field(default_factory=dict)
    timed_tokens: JsonObject = field(default_factory=dict)
    items_file: str | None = None


@dataclass
class PhasePeak:
    """The peaks of memory in a phase, above what was held before loading; None where they are unknown."""

    host_bytes: int | None = None
    device_bytes: int | None = None


class Meter(Protocol):
    """What is measured within a block."""

    def __enter__(self) -> Meter: ...

    def __exit__(self, *error: object) -> None: ...

    def figures(self) -> Figures: ...


class EnergyReader(Protocol):
    """Energy by the machine's own counters; see `measurement/energy.py`."""

    def measure(self) -> AbstractContextManager[None]: ...

    def figures(self) -> Figures: ...


class Scores(Protocol):
    """Scores a stream of requests, and says what that took."""

    def scores(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield one result per request, in their order."""
        ...

    def figures(self) -> Figures: ...


@dataclass(frozen=True)
class Answers:
    """Generated texts."""

    texts: list[list[Generated]]  # one list per item, one text per sample
    figures: Figures  # what it took, for the record


class Bench(Protocol):
    """What a benchmark may use while it runs."""

    folder: Path  # of the cell, where files go

    @property
    def seed(self) -> int: ...

    @property
    def command(self) -> str:
        """The command that measures the cell again."""
        ...

    @property
    def artifacts(self) -> Path: ...

    @property
    def eos_ids(self) -> Sequence[int]: ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def device(self) -> str:
        """cpu or cuda."""
        ...

    @property
    def scoring(self) -> ScoringConfig: ...

    @property
    def sandbox(self) -> SandboxConfig: ...

    @property
    def runtime_config(self) -> RuntimeConfig: ...

    @property
    def reference_config(self) -> RuntimeConfig: ...

    @property
    def text(self) -> Tokenizer | None: ...

    def require_text(self) -> Tokenizer:
        """Return the tokenizer, or skip the benchmark with the reason."""
        ...

    def require_rows(self, rows: int) -> None:
        """Skip the benchmark, with the reason, where the runtime takes fewer rows at once."""
        ...

    def skip(self, reason: str) -> None:
        """End the benchmark as skipped."""
        ...

    def report(self, done: int, total: int) -> None:
        """Tell the user how far the benchmark is."""
        ...

    # Answers

    def scorer(self, requests: int) -> Scores:
        """Return what scores so many requests."""
        ...

    def answers(self, prompts: Sequence[TextPrompt], decoding: Decoding, on_text: OnText | None = None) -> Answers:
        """Return the texts of each prompt. `on_text` is called with each as it is finished."""
        ...

    def write_items(self, entry: OpenEntry, items: Iterable[object]) -> None:
        """Write one JSON line per item, as they come, into the benchmark's file."""
        ...

    # Time and memory

    def random_prompts(self, rows: int, tokens: int) -> list[list[int]]: ...

    def first_call(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> StepTimer:
        """Return the times of the first generation of this shape, in which engines compile, build and allocate."""
        ...

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Return the greedy tokens of each row, all rows in step."""
        ...

    def timed_decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[StepTimer, list[list[int]]]:
        """Return the times of the steps, and the tokens."""
        ...

    def generate(self, requests: Sequence[GenerateRequest], token_budget: int) -> Figures:
        """Generate for all requests, which are there from the start; return what it took."""
        ...

    def rounds(self, work: Callable[[], T], rounds: int, warmup: int) -> list[T]:
        """Run `work` under pytest-benchmark's clock; return what the rounds after the warm-up returned."""
        ...

    def utilisation(self) -> Meter:
        """Measure how busy processor and GPU are within a block."""
        ...

    def energy(self) -> EnergyReader: ...

    def peak_memory(self, phase: str) -> AbstractContextManager[PhasePeak]:
        """Measure the peaks of host and device within the block; they are known when it has ended."""
        ...

    @property
    def load_peak_device_bytes(self) -> int | None: ...

    @property
    def load_peak_host_bytes(self) -> int | None: ...


class ReferenceBench(Protocol):
    """What a benchmark may use of the reference, whose runtime is loaded, before the cell is measured."""

    folder: Path
    runtime: Runtime
    traits: Traits
    text: Tokenizer | None
    seed: int
    scoring: ScoringConfig
    agreement: AgreementConfig
