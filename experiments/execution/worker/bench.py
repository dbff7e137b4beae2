"""What the benchmarks of a cell use: its runtime, loaded at first use, its tokenizer, timers and folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.adapters import AdapterFacts
from runtime_matrix.experiments.config.schema import GenerationConfig, RuntimeConfig, SandboxConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.arriving_tokens import RequestFailed
from runtime_matrix.experiments.evaluation.decoding import random_prompts
from runtime_matrix.experiments.evaluation.faces import Decoded, Face, face_of
from runtime_matrix.experiments.evaluation.generation import GenerationReport
from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.requests import (
    Decoding,
    Failed,
    Generated,
    GenerateRequest,
    Intake,
    TextPrompt,
)
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.evaluation.speculation import Drafter
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.execution.worker.generating import generated, generated_answers
from runtime_matrix.experiments.execution.worker.local_model import opened_model
from runtime_matrix.experiments.execution.worker.observing import Observer
from runtime_matrix.experiments.execution.worker.scoring import Scorer
from runtime_matrix.experiments.judges.judge import LocalModel
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.measurement.clocks import StepTimer
from runtime_matrix.experiments.measurement.cpu_apart import CpuApart, cpu_since
from runtime_matrix.experiments.measurement.energy import EnergyMeter
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler
from runtime_matrix.experiments.measurement.utilisation import UtilisationMeter
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.sandbox.kept_programs import KeptPrograms
from runtime_matrix.experiments.strategies.registry import StrategyChoice
from runtime_matrix.experiments.tasks.bench import Answers, Figures, OnText, OpenEntry, PhasePeak
from runtime_matrix.runtimes.base import Engine, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.requests import RequestRuntime

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedRuntime:
    """A loaded runtime with the means to measure its memory."""

    runtime: Engine
    traits: Traits
    device: str  # cpu or cuda
    used_bytes: Callable[[], int] | None  # of the whole device, above its level before loading; None on a CPU
    load_peak_device_bytes: int | None = None  # likewise, while loading
    baseline_bytes: int | None = None  # of the host, before anything was loaded


@dataclass
class CellBench:
    """Implements `tasks.bench.Bench` for a cell."""

    cell: Cell
    load: Callable[[], LoadedRuntime]
    text: Text | None
    responses: Responses
    observations: Observations
    folder: Path
    meter: PeakMeter
    report: Callable[[int, int], None]  # (done, total)
    opened: ExitStack  # closes what was loaded
    kept_programs: KeptPrograms | None = None  # of shards
    is_shard: bool = False  # it computes a part of the items
    counted: dict[str, int] = field(default_factory=dict)  # in a shard: items by test case, which are not written
    timer: BenchmarkFixture | None = None  # of the running test
    running: str = ""  # the benchmark's test case
    is_loaded: bool = False
    _local_models: dict[tuple[str, str], LocalModel] = field(default_factory=dict)  # by runtime and model
    _first_calls: dict[tuple[int, int, int], StepTimer] = field(default_factory=dict)  # by the shape of the prompts

    @cached_property
    def _loaded(self) -> LoadedRuntime:
        loaded = self.load()
        self.is_loaded = True
        return loaded

    @property
    def loaded(self) -> LoadedRuntime:
        """Return what was loaded; the first access loads it."""
        return self._loaded

    def can_switch_adapter(self) -> bool:
        """Whether the runtime is loaded and holds an adapter beside its weights, so that another can replace it."""
        runtime = self.engine if self.is_loaded else None
        return isinstance(runtime, Runtime) and runtime.held_adapter() is not None

    @property
    def engine(self) -> Engine:
        """Return the engine; the first access loads it."""
        return self._loaded.runtime

    @cached_property
    def face(self) -> Face:
        """Return what the engine is asked by; the first access loads it."""
        return face_of(self.engine, self.traits, self.generation)

    def require_steps(self) -> Runtime:
        """Return the runtime, or skip the benchmark if the engine takes whole requests."""
        if not isinstance(self.engine, Runtime):
            self.skip(loading.WHOLE_REQUESTS)
        assert isinstance(self.engine, Runtime)
        return self.engine

    @property
    def traits(self) -> Traits:
        """Return what the runtime declares; the first access loads it."""
        return self._loaded.traits

    @property
    def device(self) -> str:
        """Return cpu or cuda; the first access loads the runtime."""
        return self._loaded.device

    @property
    def used_bytes(self) -> Callable[[], int] | None:
        """Return a function for the device memory above its level before loading; None on a CPU."""
        return self._loaded.used_bytes

    @property
    def load_peak_host_bytes(self) -> int | None:
        """Return the peak of host memory while loading; None if unknown."""
        return None if self.engine.is_remote else self.meter.peaks_bytes["load"]

    @property
    def load_peak_device_bytes(self) -> int | None:
        """Return the peak of device memory while loading; None on a CPU."""
        return self._loaded.load_peak_device_bytes

    @property
    def seed(self) -> int:
        """Return the seed of prompts and samples."""
        return self.cell.config.seed

    @property
    def command(self) -> str:
        """Return the command that measures the cell again."""
        return self.cell.command

    @property
    def artifacts(self) -> Path:
        """Return the folder of stored graphs, engines and weights."""
        return self.cell.artifacts

    @property
    def tokenizer_folder(self) -> Path | None:
        """Return the folder that holds tokenizer.json; None for a model without a tokenizer."""
        return self.cell.facts.tokenizer

    @property
    def adapter(self) -> AdapterFacts | None:
        """Return the LoRA adapter over the model; None without one."""
        return self.cell.adapter

    @property
    def why_no_reference(self) -> str | None:
        """Return why the reference's outputs could not be computed; None if they were, or were not asked for."""
        events = [event for event in read_journal(self.folder / "journal.jsonl") if event["event"] == "no_reference"]
        return f"there is no reference: {events[-1].get('reason')}" if events else None

    @property
    def eos_ids(self) -> Sequence[int]:
        """Return the tokens that end a text."""
        return self.cell.facts.eos_ids

    @property
    def scoring(self) -> ScoringConfig:
        """Return the options of scoring."""
        return self.cell.config.scoring

    @property
    def generation(self) -> GenerationConfig:
        """Return the options of generation."""
        return self.cell.config.generation

    @property
    def sandbox(self) -> SandboxConfig:
        """Return the limits of generated programs."""
        return self.cell.config.sandbox

    @property
    def strategy(self) -> StrategyChoice:
        """Return the strategy for programs."""
        return self.cell.config.strategy

    @property
    def judge(self) -> JudgeChoice:
        """Return the judge of answers."""
        return self.cell.config.judge

    @property
    def keeps_replies(self) -> bool:
        """Return whether replies of a judge are kept and reused: unless responses are never kept."""
        return self.cell.config.responses.mode != "never"

    @property
    def resumes(self) -> bool:
        """Return whether the run continues one that was ended."""
        return self.cell.config.resume

    def local_model(self, runtime: str, model: str) -> AbstractContextManager[LocalModel]:
        """Return a model of this process, loaded at its first use and kept until the cell ends."""
        if (runtime, model) not in self._local_models:
            loaded = self.opened.enter_context(opened_model(self.cell, runtime, model))
            self._local_models[runtime, model] = loaded
        return nullcontext(self._local_models[runtime, model])

    def write_verdicts(self, entry: OpenEntry, verdicts: Iterable[Any]) -> str:
        """Write one JSON line per verdict beside the items; return the file's name."""
        assert entry.items_file is not None
        path = self.folder / entry.items_file.replace("items-", "verdicts-", 1)
        _write_lines(path, verdicts)
        return path.name

    @property
    def runtime_config(self) -> RuntimeConfig:
        """Return the configuration of the cell's runtime."""
        return self.cell.config.runtime

    @property
    def reference_config(self) -> RuntimeConfig:
        """Return the configuration of the reference, in its own dtype."""
        return self.cell.config.reference

    @cached_property
    def drafter(self) -> Drafter | None:
        """Return the source of draft tokens, loaded at the first access; None without speculation."""
        hw_device, _ = device.resolve(self.cell.config.hw)
        return self.opened.enter_context(loading.opened_drafter(self.cell, hw_device))

    def require_text(self) -> Text:
        """Return the tokenizer, or skip the benchmark if the model has none."""
        if self.text is None:
            self.skip(self.cell.facts.tokenizer_problem or "the model has no tokenizer")
        assert self.text is not None
        return self.text

    def require_rows(self, rows: int) -> None:
        """Skip the benchmark if the runtime's largest batch is smaller than `rows`."""
        most = self.traits.max_batch
        if most is not None and rows > most:
            self.skip(f"the benchmark needs batches of {rows} rows; {self.cell.config.runtime.name} takes {most}")

    def skip(self, reason: str) -> None:
        """End the benchmark as skipped, by raising pytest's exception."""
        pytest.skip(reason)

    # Scores and texts

    def scorer(self, requests: int) -> Scorer:
        """Return a scorer whose progress counts up to `requests`."""
        return Scorer(self, requests)

    def observer(self, requests: int) -> Observer:
        """Return an observer whose progress counts up to `requests`; skips the benchmark without the outputs."""
        return Observer(self, requests)

    def answers(self, prompts: Sequence[TextPrompt], decoding: Decoding, on_text: OnText | None = None) -> Answers:
        """Return the texts of each prompt, cached ones included; `on_text` is called when a text is finished."""
        return generated_answers(self, prompts, decoding, on_text or (lambda item, sample, result: None))

    def generated(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> Answers:
        """Return the texts of each request; `stop_ids` end a text besides the model's end-of-text tokens."""
        return generated(self, requests, stop_ids)

    @contextmanager
    def intake(self, slots: int) -> Iterator[Intake]:
        """Yield what takes requests under load; skips the benchmark if single tokens cannot be observed."""
        try:
            with self.face.intake(slots) as intake:
                yield intake
        except Unsupported as error:
            self.skip(str(error))

    def cpu_apart(self) -> Callable[[], CpuApart]:
        """Return a function for the CPU seconds since now: of what sends requests, and of the engine."""
        if self.engine.is_remote:
            return cpu_since("elsewhere")
        return cpu_since("children" if isinstance(self.engine, RequestRuntime) else "threads")

    def write_items(self, entry: OpenEntry, items: Iterable[Any]) -> None:
        """Write one JSON line per item into the grid point's file, and name the file in the entry.

        In a shard the items are only counted: the cell that merges has all of them.
        """
        if self.is_shard:
            self.counted[self.running] = sum(1 for _ in items)
            return
        point = f"-{entry.case}" if entry.case else ""
        path = self.folder / f"items-{entry.benchmark}{point}.jsonl"
        _write_lines(path, items)
        entry.items_file = path.name

    def fail_after(self, failures: Sequence[tuple[int, str]], requests: int) -> None:
        """Write each failed request with its reason and no result; RequestFailed if there is one.

        Called when the others have been answered and cached, so that the next run repeats the failed ones alone.
        """
        if not failures:
            return
        path = self.folder / f"failures-{self.running}.jsonl"
        lines = [json.dumps({"request": index, "result": None, "reason": reason}) for index, reason in failures]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        raise RequestFailed(
            f"{len(failures)} of {requests} requests failed, the first: {failures[0][1]} ({path.name} has all; "
            "the others' answers are cached: resume=true asks for the failed ones alone)"
        )

    # Time and memory

    def random_prompts(self, rows: int, tokens: int) -> list[list[int]]:
        """Return seeded random token ids; equal arguments give equal prompts."""
        return random_prompts(rows, tokens, self.traits.vocabulary, self.seed)

    def first_call(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> StepTimer:
        """Return the step times of the first generation of this shape, which may compile, build and allocate."""
        shape = (len(prompts), len(prompts[0]), new_tokens)
        if shape not in self._first_calls:  # the first benchmark that needs it runs it
            self._first_calls[shape], _ = self.timed_decode(prompts, new_tokens)
        return self._first_calls[shape]

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Return the greedy tokens of each row; prompts have equal lengths."""
        return self._decoded(prompts, new_tokens, lambda: None).tokens

    def timed_decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[StepTimer, list[list[int]]]:
        """Return the wall time of each step, prefill first, and the greedy tokens of each row."""
        timer = StepTimer(time.perf_counter, self.face.synchronize)
        timer.start()
        decoded = self._decoded(prompts, new_tokens, timer.tick)
        if decoded.arrived_at_s is not None:
            timer.correct(decoded.arrived_at_s)
        return timer, decoded.tokens

    def _decoded(self, prompts: Sequence[Sequence[int]], new_tokens: int, after_step: Callable[[], None]) -> Decoded:
        try:
            return self.face.decode(prompts, new_tokens, after_step)
        except Unsupported as error:
            self.skip(str(error))
            raise

    @property
    def banned_ids(self) -> list[int]:
        """Return the tokens that the engine may leave out of its choice while it is timed."""
        return sorted(self.face.banned(self.eos_ids))

    def generate(self, requests: Sequence[GenerateRequest], token_budget: int) -> Figures:
        """Generate for all requests at once within a token budget; return the figures, without the texts."""
        options, report = dataclasses.replace(self.generation, token_budget=token_budget), GenerationReport()
        whole = [dataclasses.replace(request, ignore_eos=True) for request in requests]

        def check(index: int, sample: int, result: Generated | Failed) -> None:
            if isinstance(result, Failed):
                raise RequestFailed(result.reason)
            if self._tells_ids and len(result.ids) != requests[index].max_new_tokens:
                raise RequestFailed(f"a text has {len(result.ids)} of {requests[index].max_new_tokens} tokens")

        self.face.generate(whole, lambda ids: lambda token: "", (), options, check, report)
        self.face.synchronize()
        return dict(report.figures())

    @property
    def _tells_ids(self) -> bool:
        return not isinstance(self.engine, RequestRuntime) or self.engine.capabilities.returns_ids

    def rounds(self, work: Callable[[], T], rounds: int, warmup: int) -> list[T]:
        """Time `work` with pytest-benchmark; return the results of the rounds after the warm-up."""
        assert self.timer is not None
        results: list[T] = []
        self.timer.pedantic(lambda: results.append(work()), rounds=rounds, warmup_rounds=warmup)
        return results[warmup:]

    def utilisation(self) -> UtilisationMeter:
        """Return a context that measures how busy the CPU threads and the GPU are."""
        return UtilisationMeter(self.cell.threads, self.device, device.uuid() if self.device == "cuda" else None)

    def energy(self) -> EnergyMeter:
        """Return a meter of the energy of the CPU or GPU; its figures are None without counters."""
        return EnergyMeter(self.device, device.uuid())

    @contextmanager
    def peak_memory(self, phase: str) -> Iterator[PhasePeak]:
        """Measure the memory peaks of the block, in bytes; the yielded object has them when the block has ended."""
        peak = PhasePeak()
        if self.is_loaded:  # otherwise the block loads it, unless all responses are cached
            device.give_back_free(self.device)
        sampler = Sampler(self.used_bytes) if self.is_loaded and self.used_bytes is not None else None
        with sampler or nullcontext(), self.meter.phase(phase):
            yield peak
        peak.host_bytes = None if self.is_loaded and self.engine.is_remote else self.meter.peaks_bytes[phase]
        peak.device_bytes = sampler.highest if sampler is not None else None


def _write_lines(path: Path, items: Iterable[Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for item in items:
            plain = item if isinstance(item, dict) else dataclasses.asdict(item)
            file.write(json.dumps(plain) + "\n")
