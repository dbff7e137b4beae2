"""What a benchmark may use while it runs: tokenizer, scores, texts, timers and its entry in the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from runtime_matrix.experiments.config.adapters import AdapterFacts
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import AgreementConfig, RuntimeConfig, SandboxConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.requests import (
    Decoding,
    Generated,
    GenerateRequest,
    Intake,
    Observed,
    ObserveRequest,
    Scored,
    ScoreRequest,
    TextPrompt,
    Tokenizer,
)
from runtime_matrix.experiments.judges.judge import LocalModel
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.measurement.clocks import StepTimer
from runtime_matrix.experiments.measurement.cpu_apart import CpuApart
from runtime_matrix.experiments.sandbox.kept_programs import KeptPrograms
from runtime_matrix.experiments.strategies.registry import StrategyChoice
from runtime_matrix.runtimes.base import Runtime, Traits

T = TypeVar("T")
Figures = dict[str, float | str | None]  # the figures of an entry, or some of them
OnText = Callable[[int, int, Generated], None]  # (item, sample, text)


@dataclass
class OpenEntry:
    """The entry of one grid point while the benchmark runs; `schema.Entry` has the fields."""

    benchmark: str
    case: str = ""
    parameters: JsonObject = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)  # raw times in seconds
    figures: JsonObject = field(default_factory=dict)
    timed_tokens: JsonObject = field(default_factory=dict)
    items_file: str | None = None


@dataclass
class PhasePeak:
    """Memory peaks of a phase in bytes, above the level before loading; None if unknown."""

    host_bytes: int | None = None
    device_bytes: int | None = None


class Meter(Protocol):
    """A measurement of the block of its `with` statement."""

    def __enter__(self) -> Meter: ...

    def __exit__(self, *error: object) -> None: ...

    def figures(self) -> Figures:
        """Return the figures after the block has ended."""
        ...


class EnergyReader(Protocol):
    """Energy by the machine's own counters; see `measurement/energy.py`."""

    def measure(self) -> AbstractContextManager[None]:
        """Measure a block; a later block replaces the reading."""
        ...

    def figures(self) -> Figures:
        """Return the figures of the last block; None values where there is no counter."""
        ...


class Scores(Protocol):
    """Scores a stream of requests and reports the work done."""

    def scores(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield one result per request, in their order."""
        ...

    def figures(self) -> Figures:
        """Return the counts of work done, complete once all results were yielded."""
        ...


class Observer(Protocol):
    """Observes the tokens of given responses and reports the work done."""

    def observe(self, requests: Iterable[ObserveRequest]) -> Iterator[Observed]:
        """Yield one result per request, in their order; a bounded number of them is in memory.

        FloatingPointError for outputs that are not finite. Skips the benchmark if the runtime lacks an output.
        """
        ...

    def figures(self) -> Figures:
        """Return the counts of work done, complete once all results were yielded.

        `observed_responses` = `computed_responses` + `cached_responses` (known from earlier runs) +
        `duplicate_responses` (equal to an earlier request of this observer); `duplicate_ratio` is the share of the
        latter. `compute_s` and `computed_tokens` count computed responses only: their wall time, None if none was
        computed, and the tokens run.
        """
        ...


@dataclass(frozen=True)
class Answers:
    """Generated texts."""

    texts: list[list[Generated]]  # one list per item, one text per sample
    figures: Figures  # counts of the work done


class Bench(Protocol):
    """What `Task.run` may use."""

    folder: Path  # the cell's folder, where files go

    @property
    def seed(self) -> int:
        """The seed of all random choices."""
        ...

    @property
    def command(self) -> str:
        """The command line that measures the cell again."""
        ...

    @property
    def artifacts(self) -> Path:
        """The folder of artifacts that cells share."""
        ...

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder that holds tokenizer.json; None for a model without a tokenizer."""
        ...

    @property
    def adapter(self) -> AdapterFacts | None:
        """The LoRA adapter over the model; None without one."""
        ...

    @property
    def why_no_reference(self) -> str | None:
        """Why the reference's outputs could not be computed, in one line; None if they were, or were not asked for."""
        ...

    @property
    def eos_ids(self) -> Sequence[int]:
        """The token ids that end a text."""
        ...

    def require_steps(self) -> Runtime:
        """Return the cell's runtime; skips the benchmark if the engine takes whole requests and gives no logits."""
        ...

    @property
    def banned_ids(self) -> list[int]:
        """The tokens that the engine may leave out of its choice while it is timed."""
        ...

    @property
    def traits(self) -> Traits:
        """The declared properties of the loaded runtime."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        ...

    @property
    def scoring(self) -> ScoringConfig:
        """The options of scoring, such as the token budget."""
        ...

    @property
    def sandbox(self) -> SandboxConfig:
        """The limits and options of the sandbox."""
        ...

    @property
    def strategy(self) -> StrategyChoice:
        """The strategy for programs."""
        ...

    @property
    def judge(self) -> JudgeChoice:
        """The judge of answers."""
        ...

    @property
    def keeps_replies(self) -> bool:
        """Whether replies of a judge are kept and reused."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether the run continues one that was ended."""
        ...

    def local_model(self, runtime: str, model: str) -> AbstractContextManager[LocalModel]:
        """Return a model of this process, loaded at its first use and kept until the cell ends."""
        ...

    def write_verdicts(self, entry: OpenEntry, verdicts: Iterable[object]) -> str:
        """Write one JSON line per verdict beside the items; return the file's name."""
        ...

    @property
    def kept_programs(self) -> KeptPrograms | None:
        """What programs of shards gave; None where nothing is sharded."""
        ...

    @property
    def runtime_config(self) -> RuntimeConfig:
        """The configuration of the cell's runtime."""
        ...

    @property
    def reference_config(self) -> RuntimeConfig:
        """The configuration of the reference's runtime."""
        ...

    @property
    def text(self) -> Tokenizer | None:
        """The tokenizer; None for a model without one."""
        ...

    def require_text(self) -> Tokenizer:
        """Return the tokenizer; skips the benchmark if the model has none."""
        ...

    def require_rows(self, rows: int) -> None:
        """Skip the benchmark if the runtime's largest batch has fewer rows."""
        ...

    def skip(self, reason: str) -> None:
        """End the benchmark as skipped; does not return."""
        ...

    def report(self, done: int, total: int) -> None:
        """Report progress to the user."""
        ...

    # Answers

    def scorer(self, requests: int) -> Scores:
        """Return a scorer for this number of requests, which is the total of the progress report."""
        ...

    def observer(self, requests: int) -> Observer:
        """Return an observer for this number of requests, which is the total of the progress report.

        Skips the benchmark, here or while observing, if the runtime lacks the outputs.
        """
        ...

    def answers(self, prompts: Sequence[TextPrompt], decoding: Decoding, on_text: OnText | None = None) -> Answers:
        """Return the texts of each prompt. `on_text` is called with each text as soon as it is finished."""
        ...

    def generated(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> Answers:
        """Return the texts of each request; `stop_ids` end a text besides the model's end-of-text tokens."""
        ...

    def intake(self, slots: int) -> AbstractContextManager[Intake]:
        """Open what takes requests under load: the engine's scheduler, or else ours, which computes `slots` rows.

        Skips the benchmark if single tokens cannot be observed.
        """
        ...

    def cpu_apart(self) -> Callable[[], CpuApart]:
        """Return a function for the CPU seconds since now: of what sends requests, and of the engine."""
        ...

    def write_items(self, entry: OpenEntry, items: Iterable[object]) -> None:
        """Write one JSON line per item into the benchmark's file while `items` yields them."""
        ...

    # Time and memory

    def random_prompts(self, rows: int, tokens: int) -> list[list[int]]:
        """Return prompts of random token ids, the same ones for the same seed."""
        ...

    def first_call(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> StepTimer:
        """Return the times of the first generation of this shape, which includes compiling, building and allocation."""
        ...

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Return the greedy tokens of each row; all rows advance together."""
        ...

    def timed_decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[StepTimer, list[list[int]]]:
        """Return the times of the steps and the tokens of each row."""
        ...

    def generate(self, requests: Sequence[GenerateRequest], token_budget: int) -> Figures:
        """Generate for all requests, available from the start; return the counts of work done."""
        ...

    def rounds(self, work: Callable[[], T], rounds: int, warmup: int) -> list[T]:
        """Run `work` under pytest-benchmark's clock; return the results of the rounds after the warm-up."""
        ...

    def utilisation(self) -> Meter:
        """Measure the utilisation of CPU and GPU within a block."""
        ...

    def energy(self) -> EnergyReader:
        """Return a meter of the energy counters."""
        ...

    def peak_memory(self, phase: str) -> AbstractContextManager[PhasePeak]:
        """Measure the memory peaks of host and device within the block; read them after it has ended."""
        ...

    @property
    def load_peak_device_bytes(self) -> int | None:
        """The peak of device memory while loading, in bytes; None if unknown."""
        ...

    @property
    def load_peak_host_bytes(self) -> int | None:
        """The peak of host memory while loading, in bytes; None if unknown."""
        ...


@dataclass(frozen=True)
class ReferenceBench:
    """What a benchmark may use of the loaded reference before the cell is measured."""

    folder: Path
    runtime: Runtime
    traits: Traits
    text: Tokenizer | None
    seed: int
    scoring: ScoringConfig
    agreement: AgreementConfig
