"""The pytest plugin of a cell: it loads the runtime once and writes one line per benchmark to the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.execution.worker.bench import CellBench, LoadedRuntime
from runtime_matrix.experiments.execution.worker.freed import FreedMemory
from runtime_matrix.experiments.execution.worker.measured_load import Loader
from runtime_matrix.experiments.execution.worker.sharding import PartsOfCell
from runtime_matrix.experiments.execution.worker.token_budget import fit
from runtime_matrix.experiments.measurement.memory import PeakMeter
from runtime_matrix.experiments.records.audit import Probe
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import Journal, not_a_number, read_journal
from runtime_matrix.experiments.records.schema import Entry, EntryStatus, Environment, Status, typed
from runtime_matrix.experiments.tasks.bench import OpenEntry
from runtime_matrix.experiments.tasks.registry import every_task
from runtime_matrix.experiments.tasks.task import Task
from runtime_matrix.runtimes.base import Runtime, Traits, Unsupported

ENTRY = pytest.StashKey["OpenEntry"]()


@dataclass(frozen=True)
class Case:
    """A grid point of a benchmark that the cell runs."""

    task: Task[Any]
    config: Any
    point: str

    @property
    def id(self) -> str:
        """Return the name of the test case: BENCHMARK or BENCHMARK-POINT."""
        return f"{self.task.name}-{self.point}" if self.point else self.task.name


def cases(cell: Cell) -> list[Case]:
    """Return what a cell runs, in order: checks, benchmarks that must be first, such as memory, and the others."""
    agreement = every_task()["agreement"]
    checks = [(agreement, cell.config.agreement)] if cell.config.agreement.enabled else []
    chosen = [*checks, *cell.config.benchmark.items()]
    chosen.sort(key=lambda pair: not pair[0].first)  # stable
    return [Case(task, config, point) for task, config in chosen for point in task.grid(config)]


class CellPlugin:
    """Runs the benchmarks of a cell: journal and items go to `folder`, progress messages to `progress`."""

    def __init__(self, cell: Cell, folder: Path, progress: Connection | None, base: LoadedRuntime | None = None):
        self.cell, self.folder, self._progress, self._base = cell, folder, progress, base
        self.journal = Journal(folder / "journal.jsonl")
        self.status: Status = "ok"
        self.reason: str | None = None
        self._bench: CellBench | None = None
        self._opened = ExitStack()  # closes what was loaded
        self._benchmark = ""  # the running one
        self._start = time.perf_counter()

    @cached_property
    def parts(self) -> PartsOfCell:
        """What this process has to do with shards."""
        return PartsOfCell(self.cell, self.folder, self._opened)

    @pytest.hookimpl(tryfirst=True)  # before conftest.py, which would otherwise compose a cell
    def pytest_configure(self, config: pytest.Config) -> None:
        """Store the plugin for the fixtures in conftest.py."""
        config.stash[PLUGIN] = self

    def pytest_benchmark_generate_machine_info(self) -> dict[str, str]:
        """Refer to the record; pytest-benchmark would examine the processor for a second."""
        return {"see": "record.json"}

    def pytest_benchmark_generate_commit_info(self) -> dict[str, str]:
        """Refer to the record, which has the commit."""
        return {"see": "record.json"}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        """Write the result of a benchmark to the journal when its test has ended."""
        outcome: Any = yield
        report: pytest.TestReport = outcome.get_result()
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self._note(item, call, report)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count the time of benchmarks that are not sharded, apart from that of merging."""
        with self.parts.timed(_benchmark_of(item.nodeid)):
            yield

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Report the benchmark that starts."""
        self._benchmark = _benchmark_of(nodeid)
        self.tell("benchmark", self._benchmark)

    def bench(self, benchmark: str = "") -> CellBench:
        """Return the bench of the cell for a benchmark.

        Its runtime is loaded now, unless known responses may make it unnecessary.
        """
        if self._bench is None:
            self._bench = self._make()
            if self.cell.config.batch is not None:  # token budgets can be measured only with a loaded runtime
                self._bench.cell = self._fitted(self._bench)
        self.parts.enter(self._bench, benchmark)
        if not (self.cell.uses_responses or self.parts.may_need_no_model(benchmark)):
            assert self._bench.engine
        return self._bench

    def write_probe(self) -> None:
        """Write the runtime's answers to the audit's fixed batch, or why there are none, if it was loaded."""
        if self._bench is not None and self._bench.is_loaded and not self._bench.traits.is_scripted:
            probe = loading.take_probe(self.cell, self._bench.engine, self._bench.traits)
            if isinstance(probe, Probe):
                self.journal.write("probe", probe)
            else:
                self.journal.write("failed", job="probe", reason=probe.reason)

    def can_switch(self) -> bool:
        """Whether the loaded runtime can go on with another adapter."""
        return self.status == "ok" and self._bench is not None and self._bench.can_switch_adapter()

    def followed_by(self, cell: Cell, folder: Path) -> CellPlugin:
        """Return the plugin of a cell with another adapter, which takes over what was loaded."""
        assert self._bench is not None
        following = CellPlugin(cell, folder, self._progress, self._bench.loaded)
        following._opened.push(self._opened.pop_all())
        self._bench = None
        return following

    def close(self) -> None:
        """Free the runtime and what was loaded beside it; write how much memory that gave back."""
        bench, self._bench, self._base = self._bench, None, None
        meter = FreedMemory(bench) if bench is not None and bench.is_loaded else None
        del bench  # what it refers to would stay
        self._opened.close()
        if meter is not None and (freed := meter.freed()) is not None:
            self.journal.write("freed", freed)

    def tell(self, *message: Any) -> None:
        """Send a progress message, see `Progress.on_message`."""
        with suppress(OSError):  # the parent has closed the pipe
            if self._progress is not None:
                self._progress.send(message)

    def _make(self) -> CellBench:
        meter, current = PeakMeter(), self._environment()
        if self._base is not None:
            meter.baseline_bytes = self._base.baseline_bytes  # the base counts for each cell that uses it
        observations = loading.make_observations(self.cell, current)
        self._opened.callback(observations.close)
        return CellBench(
            self.cell,
            lambda: self._load(meter),
            loading.make_text(self.cell),
            loading.make_responses(self.cell, current),
            observations,
            self.folder,
            meter,
            lambda done, total: self.tell("items", done, total),
            self._opened,
        )

    def _environment(self) -> Environment:
        """Return the environment at the start of the journal, or this process's own under plain pytest."""
        events = read_journal(self.folder / "journal.jsonl")
        first = events[0].get("cell") if events else None
        return typed(first["environment"], Environment) if first is not None else environment()

    def _load(self, meter: PeakMeter) -> LoadedRuntime:
        self.tell("benchmark", "load")
        loader = Loader(self.cell, self._base, meter, self._opened, self.tell, self._start)
        measured = loader.load()
        self.journal.write("load", measured.load)
        if measured.wrong is not None:
            raise ValueError(measured.wrong)
        self._check_vocabulary(measured.loaded.traits)
        self.tell("benchmark", self._benchmark)
        return measured.loaded

    def _fitted(self, bench: CellBench) -> Cell:
        """Return the cell with the largest token budgets that fit into memory, and write them to the journal."""
        runtime, traits, used = bench.engine, bench.traits, bench.used_bytes
        if not isinstance(runtime, Runtime):
            raise Unsupported(f"batch=auto does not apply: {loading.WHOLE_REQUESTS}; use batch=null")
        self.tell("benchmark", "batch=auto")
        free = device.free_bytes(bench.device)
        if free is None:
            raise ValueError("batch=auto needs the free memory, which this system does not report: use batch=null")
        fitting = fit(runtime, traits, free, lambda work: device.peak_bytes_of(used, bench.meter, work))
        self.journal.write("fit", fitting)
        return self.cell.with_token_budget(fitting.token_budget)

    def _check_vocabulary(self, traits: Traits) -> None:
        vocabulary = self.cell.facts.vocabulary
        if traits.vocabulary != vocabulary and not traits.is_scripted:
            raise ValueError(f"the runtime has a vocabulary of {traits.vocabulary}, the model {vocabulary}")

    def _note(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        entry = item.stash.get(ENTRY, None) or OpenEntry(self._benchmark)
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
        counters = self._bench.engine.counters() if self._bench is not None and self._bench.is_loaded else {}
        judging_s = entry.figures.get("judge_s") or 0.0  # the answers took the rest
        duration_s = round(call.duration - judging_s, 4)
        result = Entry(
            status=status, reason=reason, counters=counters, duration_s=duration_s, ended_at=call.stop, **vars(entry)
        )
        if self._bench is None:  # it could not be made
            self.journal.write("benchmark", result)
        else:
            self.journal.write("benchmark", self.parts.merged(result), **self.parts.counted(self._bench))


PLUGIN = pytest.StashKey[CellPlugin]()


def _benchmark_of(nodeid: str) -> str:
    return nodeid.partition("[")[2].partition("]")[0].partition("-")[0]
