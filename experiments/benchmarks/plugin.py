"""The pytest plugin of a cell: hands the cell over, loads its runtime once, journals one line a benchmark."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.benchmarks import declared
from runtime_matrix.experiments.cells import device, loading
from runtime_matrix.experiments.cells.fitting import fit
from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.core.decoding import decode_batch
from runtime_matrix.experiments.core.drafting import Drafter
from runtime_matrix.experiments.core.responses import Responses
from runtime_matrix.experiments.core.text import Text
from runtime_matrix.experiments.measurement.clocks import PhaseTimer, StepTimer
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler, mapped_file_bytes
from runtime_matrix.experiments.plain_json import JsonObject
from runtime_matrix.experiments.records.journal import Journal, not_a_number
from runtime_matrix.experiments.records.schema import Entry, EntryStatus, HeldWeights, Load, Status
from runtime_matrix.experiments.targets import module_of
from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Runtime, Traits

BENCH = pytest.StashKey["Bench"]()
ENTRY = pytest.StashKey["OpenEntry"]()


@dataclass
class OpenEntry:
    """What one benchmark leaves in the journal, while it runs; see `schema.Entry`."""

    benchmark: str
    case: str
    parameters: JsonObject = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    figures: JsonObject = field(default_factory=dict)
    timed_tokens: JsonObject = field(default_factory=dict)
    items_file: str | None = None


@dataclass(frozen=True)
class Loaded:
    runtime: Runtime
    traits: Traits
    device: str  # cpu or cuda
    used_bytes: Callable[[], int] | None  # of the whole device, less what was used before loading; None on a CPU
    load_peak_device_bytes: int | None = None  # in the same way, while it was loaded


@dataclass
class Bench:
    """What a benchmark file works with: the cell, its runtime, loaded when it is needed, and where its files go."""

    cell: Cell
    load: Callable[[], Loaded]
    text: Text | None
    responses: Responses
    folder: Path
    meter: PeakMeter
    on_items: Any  # (done, total) → None
    is_loaded: bool = False
    _first_calls: dict[tuple[int, int, int], StepTimer] = field(default_factory=dict)  # by the shape of what was asked

    @cached_property
    def _loaded(self) -> Loaded:
        found = self.load()
        self.is_loaded = True
        return found

    @property
    def runtime(self) -> Runtime:
        return self._loaded.runtime

    @property
    def traits(self) -> Traits:
        return self._loaded.traits

    @property
    def hardware_device(self) -> str:
        return self._loaded.device

    @property
    def device_used_bytes(self) -> Callable[[], int] | None:
        return self._loaded.used_bytes

    @property
    def load_peak_device_bytes(self) -> int | None:
        return self._loaded.load_peak_device_bytes

    def first_call(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> StepTimer:
        """Return the times of the first generation of this shape, in which engines compile, build and allocate.

        Whichever benchmark needs it first runs it.
        """
        shape = (len(prompts), len(prompts[0]), new_tokens)
        if shape not in self._first_calls:
            self._first_calls[shape], _ = self.generate(prompts, new_tokens)
        return self._first_calls[shape]

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[StepTimer, list[list[int]]]:
        """Return the times of a generation, and its tokens."""
        timer = StepTimer(time.perf_counter, self.runtime.synchronize)
        timer.start()
        return timer, decode_batch(self.runtime, self.traits, prompts, new_tokens, after_step=timer.tick)

    @cached_property
    def drafter(self) -> Drafter | None:
        """What guesses ahead of the runtime; loaded once, at the first text."""
        return loading.make_drafter(self.cell, device.resolve(self.cell.config.hw)[0])

    def require_text(self) -> Text:
        """Return the tokenizer, or skip the benchmark with the reason."""
        if self.text is None:
            pytest.skip("the model has no tokenizer")
        return self.text

    def require_rows(self, rows: int) -> None:
        """Skip the benchmark, with the reason, where the runtime takes fewer rows at once."""
        most = self.traits.max_batch
        if most is not None and rows > most:
            pytest.skip(f"{rows} rows at once are asked for, and {self.cell.config.runtime.name} takes {most}")

    def items_path(self, benchmark: str) -> Path:
        return self.folder / f"items-{benchmark}.jsonl"


class CellPlugin:
    """`folder` takes the journal and the items; `progress` hears what goes on."""

    def __init__(self, cell: Cell, folder: Path, progress: Connection | None):
        self.cell, self.folder, self._progress = cell, folder, progress
        self.journal = Journal(folder / "journal.jsonl")
        self.status: Status = "ok"
        self.reason: str | None = None
        self._bench: Bench | None = None
        self._benchmark = ""  # which one runs
        self._start = time.perf_counter()

    @pytest.hookimpl(tryfirst=True)  # before the conftest file, which otherwise composes a cell of its own
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[PLUGIN] = self

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = self.cell.config.benchmark.chosen()
        # Memory before what is run in larger batches: engines keep for themselves what they needed once.
        order = (["agreement"] if self.cell.config.agreement.enabled else []) + sorted(
            chosen, key=lambda name: name != "memory"
        )
        kept = [item for item in items if benchmark_name(item) in order]
        items[:] = sorted(kept, key=lambda item: order.index(benchmark_name(item)))

    # pytest-benchmark measures the processor for a second to describe it; the record's environment knows it already.
    def pytest_benchmark_generate_machine_info(self) -> dict[str, str]:
        return {"see": "record.json"}

    def pytest_benchmark_generate_commit_info(self) -> dict[str, str]:
        return {"see": "record.json"}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome: Any = yield
        report: pytest.TestReport = outcome.get_result()
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self._note(item, call, report)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._benchmark = nodeid.split("::")[0].removeprefix("test_").removesuffix(".py")
        self.tell("benchmark", self._benchmark)

    def bench(self) -> Bench:
        """Return what goes with the cell; its runtime is loaded now, unless it may be that all answers are known."""
        if self._bench is None:
            self._bench = self._make()
            if self.cell.config.batch is not None:  # the budgets that fit are known once the runtime is there
                self._bench.cell = self._fitted(self._bench)
        if not self.cell.uses_responses:
            assert self._bench.runtime
        return self._bench

    def tell(self, *message: Any) -> None:
        with suppress(OSError):  # nobody listens any more
            if self._progress is not None:
                self._progress.send(message)

    def _make(self) -> Bench:
        meter = PeakMeter()
        return Bench(
            self.cell,
            lambda: self._load(meter),
            loading.make_text(self.cell),
            loading.make_responses(self.cell),
            self.folder,
            meter,
            lambda done, total: self.tell("items", done, total),
        )

    def _load(self, meter: PeakMeter) -> Loaded:
        self.tell("benchmark", "load")
        found, stamp = device.resolve(self.cell.config.hw)
        runtime = loading.make_runtime(self.cell.config.runtime)
        importlib.import_module(module_of(str(self.cell.config.runtime.engine["target"])))

        @contextmanager
        def phase(name: str) -> Iterator[None]:
            self.tell("phase", name)
            with meter.loading_phase(name), timer.phase(name):
                yield

        used = device.used_bytes(found)  # before anything is loaded, and after the device's context is there
        timer, import_s = PhaseTimer(time.perf_counter), time.perf_counter() - self._start

        mapped = mapped_file_bytes()
        artifacts.on_build = lambda kind: self.tell("phase", f"building {kind}")
        sampler = Sampler(used) if used is not None else None
        with meter.phase("load"), sampler or nullcontext():
            traits = loading.load(self.cell, runtime, self.cell.config.runtime, self.cell.hardware(found), phase)
        on_device = max(0, used()) if used is not None else 0
        gained, mapped = meter.gained_bytes(), mapped_file_bytes() - mapped
        held = loading.held_weights(self.cell.config.runtime, self.cell.facts.quantized)
        wrong = self._wrong(traits, held)
        doubt = declared.doubt(traits.weight_bytes, None if gained is None else gained + on_device, max(0, mapped))
        load = Load(
            import_s=round(import_s, 4),  # and pytest's collecting
            phases_s=timer.seconds,
            peak_host_bytes=meter.peaks_bytes["load"],
            peak_device_bytes=sampler.highest if sampler is not None else None,
            import_bytes=meter.import_bytes,
            gained_host_bytes=gained,
            weight_bytes=None if wrong else _whole(traits.weight_bytes),
            weight_disk_bytes=_whole(traits.weight_disk_bytes),
            dtype=traits.dtype,
            device=found,
            held=held,
            build_phases=sorted(traits.build_phases),
            artifacts=dict(artifacts.tally),
            dtype_note=traits.dtype_note,
            notes=[*traits.notes, *filter(None, (traits.dtype_note, stamp, doubt))],
        )
        self.journal.write("load", load)
        if wrong is not None:
            raise ValueError(wrong)
        self._check_vocabulary(traits)
        self.tell("benchmark", self._benchmark)
        return Loaded(runtime, traits, found, used, sampler.highest if sampler is not None else None)

    def _fitted(self, bench: Bench) -> Cell:
        """Return the cell with the token budgets that fit, and journal what they are."""
        runtime, traits, used = bench.runtime, bench.traits, bench.device_used_bytes
        self.tell("benchmark", "batch=auto")
        free = device.free_bytes(bench.hardware_device)
        if free is None:
            raise ValueError("batch=auto needs the free memory, which this system does not tell: give batch=null")
        fitting = fit(runtime, traits, free, lambda work: device.peak_bytes_of(used, bench.meter, work))
        self.journal.write("fit", fitting)
        return self.cell.with_token_budget(fitting.token_budget)

    def _wrong(self, traits: Traits, held: HeldWeights) -> str | None:
        if traits.is_scripted:
            return None
        count = declared.parameters_of(self.cell, traits.weight_bytes, traits.dtype)
        return declared.wrong_declaration(traits, held, count)

    def _check_vocabulary(self, traits: Traits) -> None:
        wanted = self.cell.facts.vocabulary
        if traits.vocabulary != wanted and not traits.is_scripted:
            raise ValueError(f"the runtime has a vocabulary of {traits.vocabulary}, the model {wanted}")

    def _note(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        entry = item.stash.get(ENTRY, None) or OpenEntry(benchmark_name(item), item.name)
        status: EntryStatus = "ok"
        reason = None
        if report.skipped:
            status, reason = "skipped", str(getattr(call.excinfo and call.excinfo.value, "msg", "skipped"))
        elif report.failed:
            assert call.excinfo is not None
            cell_status, reason = loading.classify(call.excinfo.value)
            status = "failed"
            if self.status == "ok":
                self.status, self.reason = cell_status, reason
        elif name := not_a_number(entry.figures):
            status, reason = "failed", f"{entry.benchmark}: the figure {name} is not finite"
            if self.status == "ok":
                self.status, self.reason = "error", reason
        counters = self._bench.runtime.counters() if self._bench is not None and self._bench.is_loaded else {}
        duration_s = round(call.duration, 4)
        closed = Entry(
            status=status, reason=reason, counters=counters, duration_s=duration_s, ended_at=call.stop, **vars(entry)
        )
        self.journal.write("benchmark", closed)


PLUGIN = pytest.StashKey[CellPlugin]()


def _whole(size: float | None) -> int | None:
    """Return a size that a runtime declares, which may have been computed as a quotient."""
    return None if size is None else round(size)


def benchmark_name(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")
