"""A scheduler whose nodes are faked: in `poll` it writes what the process of a unit would have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.launchers.launcher import JobState, Scheduler, Unit
from runtime_matrix.experiments.records.journal import Journal
from runtime_matrix.experiments.records.schema import Environment, Record, Site
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.distributed import measure_distributed
from runtime_matrix.experiments.sweeps.one_cell import identity_of_cell, write_failure

NODE = "node-7"
OTHER_MACHINE = {"processor": "another one", "cores": 64}
Behaviour = Callable[[Unit, units.Order, int], JobState | None]  # of a try, from 1; None: it ends with an outcome


def well(unit: Unit, order: units.Order, number: int) -> JobState | None:
    """End with an outcome."""
    compute(unit, order)
    return None


def compute(unit: Unit, order: units.Order) -> None:
    """Write an outcome, and of a cell a record, as the process of a unit does."""
    outcome = units.UnitOutcome(status="ok")
    if order.kind == "cell":
        folder = begin(unit, order)
        write_failure(folder, "ok", None)
        outcome = units.UnitOutcome(status="ok", record_id=folder.name)
    units.write_outcome(unit.folder, unit.token, outcome)


def begin(unit: Unit, order: units.Order) -> Path:
    """Write what a unit of a cell writes at its start, and return the folder of its record."""
    started = units.Started(node=NODE, process=1, cores=[3], job="1")
    units._write(unit.folder / f"started-{unit.token}.json", started)
    (planned,), results = order.cells, Path(order.results)
    cell = plan(planned.resolved, planned.command)
    folder = results / units.try_id(planned.record_id, 1 + len(units.tries(results, planned.record_id)))
    folder.mkdir()
    site = Site(launcher="faked", node=NODE, cores=[3], job="1", has_whole_node=order.has_whole_node)
    machine = Environment(hostname=NODE, versions=versions(cell), **OTHER_MACHINE)  # type: ignore[arg-type]
    assert planned.sweep is not None
    identity = identity_of_cell(cell, order.run_id, folder.name, machine, planned.is_reference, planned.sweep, site)
    Journal(folder / "journal.jsonl").write("cell", cell=identity)
    return folder


def versions(cell: Cell) -> dict[str, str | None]:
    from runtime_matrix.experiments.records.environment import environment

    return {**environment().versions, **cell.code.versions}


class FakedNodes(Scheduler):
    """Computes each unit at the first poll after it was submitted."""

    poll_s = settle_s = 0.0

    def __init__(self, behaviour: Behaviour = well):
        self._behaviour = behaviour
        self.submitted: list[Unit] = []
        self.orders: dict[str, units.Order] = {}
        self.cancelled: list[str] = []
        self.states: dict[str, JobState] = {}  # of jobs of an earlier command, and of those that have ended
        self._jobs: dict[str, tuple[Unit, int]] = {}

    @override
    def submit(self, units_: Sequence[Unit]) -> Iterator[tuple[Unit, str]]:
        for unit in units_:
            self.submitted.append(unit)
            tries = sum(1 for other in self.submitted if other.name == unit.name)
            job = f"job-{len(self.submitted)}"
            self._jobs[job] = (unit, tries)
            yield unit, job

    @override
    def poll(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        for job in jobs:
            if job in self._jobs and job not in self.states:
                unit, tries = self._jobs[job]
                order = units.read_order(unit.folder)
                assert order is not None
                self.orders[unit.name] = order
                state = self._behaviour(unit, order, tries)
                self.states[job] = state or JobState("ended", "crash", "without an outcome", NODE)
        return {job: self.states.get(job, JobState("lost", reason=f"{job} is unknown")) for job in jobs}

    @override
    def cancel(self, jobs: Sequence[str], only_waiting: bool = False) -> None:
        self.cancelled += jobs


def cells(results: Path, *words: str, faults: Sequence[str] = ("none", "error", "hang")) -> list[Cell]:
    """Return cells of which the first is the reference; they differ in an option."""
    places = {"results_dir": str(results), "artifacts_dir": str(results / "artifacts")}
    return [plan({**_composed(f"runtime.engine.fault={fault}", *words), **places}, "a command") for fault in faults]


@cache
def _composed(*words: str) -> JsonObject:
    fixed = ["runtime=fake", "runtime@reference=fake", "launcher=slurm", "progress=false"]
    benchmark = [] if any(word.startswith("benchmark=") for word in words) else ["benchmark=[extractive_qa]"]
    return compose([*fixed, *benchmark, *words])


def measured(planned: Sequence[Cell], scheduler: Scheduler, seconds: float | None = None) -> tuple[list[Record], bool]:
    """Measure cells through the scheduler."""
    with Progress(len(planned), is_enabled=False) as progress:
        return measure_distributed(planned, scheduler, progress, lambda record: None, Deadline(seconds))
