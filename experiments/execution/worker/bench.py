"""What the benchmarks of a cell work with: its runtime, loaded when it is needed, timers, and where files go."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.schema import GenerationConfig, RuntimeConfig, SandboxConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.requests import Decoding, GenerateRequest, TextPrompt
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.evaluation.speculation import Drafter
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.execution.worker.generating import generated_answers
from runtime_matrix.experiments.execution.worker.scoring import Scorer
from runtime_matrix.experiments.measurement.clocks import StepTimer
from runtime_matrix.experiments.measurement.energy import EnergyMeter
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler
from runtime_matrix.experiments.measurement.utilisation import UtilisationMeter
from runtime_matrix.experiments.tasks.bench import Answers, Figures, OnText, OpenEntry, PhasePeak
from runtime_matrix.runtimes.base import Runtime, Traits

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedRuntime:
    """A loaded runtime, and what it may be measured by."""

    runtime: Runtime
    traits: Traits
    device: str  # cpu or cuda
    used_bytes: Callable[[], int] | None  # of the whole device, less what was used before loading; None on a CPU
    load_peak_device_bytes: int | None = None  # in the same way, while it was loaded


@dataclass
class CellBench:
    """Implements `tasks.bench.Bench` for a cell."""

    cell: Cell
    load: Callable[[], LoadedRuntime]
    text: Text | None
    responses: Responses
    folder: Path
    meter: PeakMeter
    report: Callable[[int, int], None]  # (done, total)
    opened: ExitStack  # closes what was loaded
    timer: BenchmarkFixture | None = None  # of the test that runs
    is_loaded: bool = False
    _first_calls: dict[tuple[int, int, int], StepTimer] = field(default_factory=dict)  # by the shape of the prompts

    @cached_property
    def _loaded(self) -> LoadedRuntime:
        loaded = self.load()
        self.is_loaded = True
        return loaded

    @property
    def runtime(self) -> Runtime:
        return self._loaded.runtime

    @property
    def traits(self) -> Traits:
        return self._loaded.traits

    @property
    def device(self) -> str:
        return self._loaded.device

    @property
    def used_bytes(self) -> Callable[[], int] | None:
        return self._loaded.used_bytes

    @property
    def load_peak_host_bytes(self) -> int | None:
        return self.meter.peaks_bytes["load"] if self._loaded else None

    @property
    def load_peak_device_bytes(self) -> int | None:
        return self._loaded.load_peak_device_bytes

    @property
    def seed(self) -> int:
        return self.cell.config.seed

    @property
    def command(self) -> str:
        return self.cell.command

    @property
    def artifacts(self) -> Path:
        return self.cell.artifacts

    @property
    def eos_ids(self) -> Sequence[int]:
        return self.cell.facts.eos_ids

    @property
    def scoring(self) -> ScoringConfig:
        return self.cell.config.scoring

    @property
    def generation(self) -> GenerationConfig:
        return self.cell.config.generation

    @property
    def sandbox(self) -> SandboxConfig:
        return self.cell.config.sandbox

    @property
    def runtime_config(self) -> RuntimeConfig:
        return self.cell.config.runtime

    @property
    def reference_config(self) -> RuntimeConfig:
        return self.cell.config.reference

    @cached_property
    def drafter(self) -> Drafter | None:
        """What guesses ahead of the runtime; loaded once, at the first text."""
        found, _ = device.resolve(self.cell.config.hw)
        return self.opened.enter_context(loading.opened_drafter(self.cell, found))

    def require_text(self) -> Text:
        if self.text is None:
            self.skip("the model has no tokenizer")
        assert self.text is not None
        return self.text

    def require_rows(self, rows: int) -> None:
        most = self.traits.max_batch
        if most is not None and rows > most:
            self.skip(f"{rows} rows at once are asked for, and {self.cell.config.runtime.name} takes {most}")

    def skip(self, reason: str) -> None:
        pytest.skip(reason)

    # Answers

    def scorer(self, requests: int) -> Scorer:
        return Scorer(self, requests)

    def answers(self, prompts: Sequence[TextPrompt], decoding: Decoding, on_text: OnText | None = None) -> Answers:
        return generated_answers(self, prompts, decoding, on_text or (lambda item, sample, result: None))

    def write_items(self, entry: OpenEntry, items: Iterable[Any]) -> None:
        path = self.folder / f"items-{entry.benchmark}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for item in items:
                plain = item if isinstance(item, dict) else dataclasses.asdict(item)
                file.write(json.dumps(plain) + "\n")
        entry.items_file = path.name

    # Time and memory

    def random_prompts(self, rows: int, tokens: int) -> list[list[int]]:
        return random_prompts(rows, tokens, self.traits.vocabulary, self.seed)

    def first_call(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> StepTimer:
        shape = (len(prompts), len(prompts[0]), new_tokens)
        if shape not in self._first_calls:  # whichever benchmark needs it first runs it
            self._first_calls[shape], _ = self.timed_decode(prompts, new_tokens)
        return self._first_calls[shape]

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        return decode_batch(self.runtime, self.traits, prompts, new_tokens)

    def timed_decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[StepTimer, list[list[int]]]:
        timer = StepTimer(time.perf_counter, self.runtime.synchronize)
        timer.start()
        return timer, decode_batch(self.runtime, self.traits, prompts, new_tokens, after_step=timer.tick)

    def generate(self, requests: Sequence[GenerateRequest], token_budget: int) -> Figures:
        options, report = GenerationConfig(token_budget=token_budget), GenerationReport()
        generate(
            self.runtime, self.traits, requests, lambda ids: lambda token: "", options=options, report=report
        )  # fmt: skip
        self.runtime.synchronize()
        return dict(report.figures())

    def rounds(self, work: Callable[[], T], rounds: int, warmup: int) -> list[T]:
        assert self.timer is not None
        results: list[T] = []
        self.timer.pedantic(lambda: results.append(work()), rounds=rounds, warmup_rounds=warmup)
        return results[warmup:]

    def utilisation(self) -> UtilisationMeter:
        return UtilisationMeter(self.cell.threads, self.device, device.uuid() if self.device == "cuda" else None)

    def energy(self) -> EnergyMeter:
        return EnergyMeter(self.device, device.uuid())

    @contextmanager
    def peak_memory(self, phase: str) -> Iterator[PhasePeak]:
        peak = PhasePeak()
        if self.is_loaded:  # otherwise it is loaded within, unless every answer is cached
            device.give_back_free(self.device)
        sampler = Sampler(self.used_bytes) if self.is_loaded and self.used_bytes is not None else None
        with sampler or nullcontext(), self.meter.phase(phase):
            yield peak
        peak.host_bytes = self.meter.peaks_bytes[phase]
        peak.device_bytes = sampler.highest if sampler is not None else None
