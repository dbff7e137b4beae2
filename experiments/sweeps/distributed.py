"""Measure the cells of a sweep through a launcher, in units whose jobs may outlive the command."""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace as changed
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, alike, baselines
from runtime_matrix.experiments.cells.parts import is_merged
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.launchers.launcher import Scheduler, Unit, Unreachable
from runtime_matrix.experiments.launchers.registry import LOCAL, LauncherChoice
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import Record, Sweep
from runtime_matrix.experiments.records.store import check_writable
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.driver import Driver
from runtime_matrix.experiments.sweeps.earlier_units import Earlier, earlier_units, only_sweep, write_missing_record
from runtime_matrix.experiments.sweeps.measure import run_stamp, sweep_id
from runtime_matrix.experiments.sweeps.resume import recorded_cells, settle, take
from runtime_matrix.experiments.sweeps.shards import clear_shards
from runtime_matrix.experiments.sweeps.unit_work import Part, UnitWork
from runtime_matrix.experiments.tasks.task import QualityTask

_FOLDER = "units"
_PROCESSES = 5  # of a cell, each with its own time limit: check, hardware peak, reference, benchmarks, replay
_STEP_S = 0.5


def launcher_of(cells: Sequence[Cell]) -> LauncherChoice:
    """Return the launcher of a sweep. UserError if its cells have different ones, or bind devices themselves."""
    first = cells[0].config.launcher
    devices = cells[0].config.hw.devices
    if devices is not None and first.name != LOCAL:
        raise UserError(
            f"hw.devices={devices} binds processes of one machine; with launcher={first.name} the scheduler gives each "
            "its own: use launcher.cpus and launcher.gpus"
        )
    if any(cell.config.launcher != first for cell in cells):
        names = ", ".join(sorted({cell.config.launcher.name for cell in cells}))
        raise UserError(f"a sweep has one launcher with one set of options; found {names}: choose one")
    return first


def measure_distributed(
    cells: Sequence[Cell],
    scheduler: Scheduler,
    progress: Progress,
    on_record: Callable[[Record], None],
    deadline: Deadline,
) -> tuple[list[Record], bool]:
    """Measure and compare the cells in units. Return the records in the order of the cells, and whether all is done.

    With `resume`, jobs of an earlier command that still run are waited for; without it they are ended.
    """
    results = Path(cells[0].config.results_dir).resolve()
    check_writable(results)
    progress.note(f"records are written to {cells[0].config.results_dir}")
    with only_sweep(results / _FOLDER):
        return _Sweep(cells, results, scheduler, progress, on_record).run(deadline)


class _Sweep:
    """The units of a sweep, and the records of its cells so far."""

    def __init__(
        self,
        cells: Sequence[Cell],
        results: Path,
        scheduler: Scheduler,
        progress: Progress,
        on_record: Callable[[Record], None],
    ):
        self._cells, self._results, self._scheduler = cells, results, scheduler
        self._progress, self._on_record = progress, on_record
        self._run_id = run_stamp()
        self._planned = self._plans()
        self._parts: dict[str, Part] = {}
        self._shards: list[Unit] = []
        self._units = self._cell_units()  # in the order of the cells
        self._units += self._comparison_units()
        self._units += self._shards
        self._records: dict[int, Record] = {}

    def run(self, deadline: Deadline) -> tuple[list[Record], bool]:
        jobs = self._jobs_of_earlier_commands()
        settle(self._results, self._ids_in(jobs))
        self._take_recorded(jobs)
        self._clear_shards()
        left = [unit for unit in self._units if not self._is_recorded(unit)]
        work = UnitWork(
            self._cells,
            self._results,
            self._parts,
            self._planned,
            self._records,
            self._run_id,
            self._take,
            self._scheduler.is_alone,
        )
        tries = self._cells[0].config.tries
        driver = Driver(self._scheduler, work, tries, wait=self._wait, note=self._progress.note)
        is_whole = driver.run(left, {name: earlier.job for name, earlier in jobs.items()}, deadline)
        return [self._records[index] for index in sorted(self._records)], is_whole

    def _plans(self) -> list[units.PlannedCell]:
        references, sweep = baselines(self._cells), sweep_id(self._cells)
        return [
            units.PlannedCell(
                resolved=cell.resolved,
                command=cell.command,
                config_hash=cell.config_hash,
                code=cell.code.digest,
                record_id=f"{self._run_id}-{index:02d}-{cell.label}-{cell.config_hash[:6]}",
                is_reference=index in references,
                sweep=Sweep(id=sweep, cells=len(self._cells), index=index),
            )
            for index, cell in enumerate(self._cells)
        ]

    def _cell_units(self) -> list[Unit]:
        seen: Counter[str] = Counter()  # a runtime against itself is two cells with one configuration
        cell_units = []
        for index, (cell, planned) in enumerate(zip(self._cells, self._planned, strict=True)):
            seen[planned.config_hash] += 1
            key = _digest(planned.config_hash, planned.code, str(seen[planned.config_hash]))
            is_timed = any(not isinstance(task, QualityTask) for task, _ in cell.config.benchmark.items())
            shards = self._shard_units(index, f"{cell.label}-{key}") if is_merged(cell) else []
            needs = tuple(shard.name for shard in shards)
            limit_s = _PROCESSES * cell.config.time_limit_s
            cell_units.append(self._unit(f"{cell.label}-{key}", Part("cell", (index,)), needs, is_timed, limit_s))
            self._shards += shards
        return cell_units

    def _shard_units(self, index: int, name: str) -> list[Unit]:
        config = self._cells[index].config
        return [
            self._unit(
                f"{name}-shard-{shard}-of-{config.shards}",
                Part("shard", (index,), shard),
                (),
                is_timed=False,
                limit_s=config.tries * config.time_limit_s,
            )
            for shard in range(config.shards)
        ]

    def _comparison_units(self) -> list[Unit]:
        """Return a unit for each group of cells that are compared; it is never split."""
        comparison_units = []
        for group in alike(self._cells):
            if any(self._planned[index].is_reference for index in group) and len(group) > 1:
                needs = tuple(self._units[index].name for index in group)
                limit_s = len(group) * max(self._cells[index].config.time_limit_s for index in group)
                part = Part("comparison", tuple(group))
                comparison_units.append(self._unit(f"comparison-{_digest(*needs)}", part, needs, True, limit_s))
        return comparison_units

    def _unit(self, name: str, part: Part, needs: tuple[str, ...], is_timed: bool, limit_s: float) -> Unit:
        name = re.sub(r"[^\w.+-]", "_", name)
        self._parts[name] = part
        return Unit(
            name=name,
            folder=self._results / _FOLDER / name,
            token=secrets.token_hex(4),
            needs=needs,
            is_timed=is_timed,
            limit_s=limit_s,
            wants_gpu=any(self._cells[index].config.hw.device == "cuda" for index in part.cells),
        )

    def _jobs_of_earlier_commands(self) -> dict[str, Earlier]:
        """Return the jobs to wait for; end the others, and write the records of those that ended meanwhile."""
        try:
            alive, dead = earlier_units(self._units, self._scheduler)
            unwanted = {name: earlier for name, earlier in alive.items() if not self._is_wanted(name, earlier, alive)}
            self._scheduler.cancel([earlier.job for earlier in unwanted.values()])
            states = self._scheduler.poll([earlier.job for earlier in (*dead.values(), *unwanted.values())])
        except Unreachable as error:
            raise UserError(f"the scheduler does not answer: {error}; try again later") from error
        for earlier in dead.values():
            write_missing_record(earlier, states[earlier.job], self._results)
        wanted = {name: earlier for name, earlier in alive.items() if name not in unwanted}
        for name, earlier in wanted.items():
            self._adopt(name, earlier)
        if wanted:
            self._progress.note(f"{len(wanted)} jobs of an earlier command are waited for")
        return wanted

    def _is_wanted(self, name: str, earlier: Earlier, alive: dict[str, Earlier]) -> bool:
        """Whether to wait for a job; a comparison is of use if none of its cells is measured again."""
        if not self._cells[0].config.resume:
            return False
        return earlier.order.kind != "comparison"

    def _adopt(self, name: str, earlier: Earlier) -> None:
        """Give the unit the token and the record id of the job that computes it."""
        position = next(number for number, unit in enumerate(self._units) if unit.name == name)
        self._units[position] = changed(self._units[position], token=earlier.order.token)
        if earlier.order.kind == "cell":
            (index,), (planned,) = self._parts[name].cells, earlier.order.cells
            self._planned[index] = replace(self._planned[index], record_id=planned.record_id)

    def _ids_in(self, jobs: dict[str, Earlier]) -> list[str]:
        cells = [earlier.order.cells[0] for earlier in jobs.values() if earlier.order.kind == "cell"]
        return [folder.name for planned in cells for folder in units.tries(self._results, planned.record_id)]

    def _take_recorded(self, jobs: dict[str, Earlier]) -> None:
        config = self._cells[0].config
        recorded = recorded_cells(self._results, config.tries) if config.resume else []
        machine = environment()
        for index, cell in enumerate(self._cells):
            if self._units[index].name not in jobs:
                here = replace(machine, versions={**machine.versions, **cell.code.versions})
                record = take(recorded, cell, here, of_any_machine=True)
                if record is not None:
                    self._records[index] = replace(record, is_reference=self._planned[index].is_reference)
        for index, record in self._records.items():
            self._report(index, record, was_resumed=True)

    def _clear_shards(self) -> None:
        """Without `resume`, remove what earlier commands computed of shards."""
        for cell in self._cells:
            if is_merged(cell) and not cell.config.resume:
                clear_shards(self._results, cell)

    def _is_recorded(self, unit: Unit) -> bool:
        part = self._parts[unit.name]
        return part.kind != "comparison" and part.cells[0] in self._records

    def _take(self, index: int, record: Record) -> None:
        self._report(index, record, was_resumed=False)

    def _report(self, index: int, record: Record, was_resumed: bool) -> None:
        label = self._cells[index].label
        self._progress.report(label, record.status, record.reason, None if was_resumed else _duration_s(record))
        self._on_record(record)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(_STEP_S, left))
            self._progress.tick()


def _duration_s(record: Record) -> float:
    if record.finished_at is None:
        return 0.0
    start, end = (datetime.datetime.fromisoformat(time) for time in (record.started_at, record.finished_at))
    return (end - start).total_seconds()


def _digest(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
