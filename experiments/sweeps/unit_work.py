"""What the units of a sweep compute, and the record of each cell whatever happened to its unit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import is_merged, shard_folder, shard_folders
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.launchers.launcher import JobState, Unit
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.schema import CellIdentity, Environment, Record, Site, Sweep, to_plain
from runtime_matrix.experiments.records.store import SPEED_FILE, read_speed, write_atomic
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.after_sweep import candidates_of
from runtime_matrix.experiments.sweeps.driver import Ending
from runtime_matrix.experiments.sweeps.merging import failed_shard, write_sharding
from runtime_matrix.experiments.sweeps.one_cell import identity_of_cell, write_failure
from runtime_matrix.experiments.sweeps.shards import is_done, remove_kept
from runtime_matrix.experiments.timing.interleave import speed_content
from runtime_matrix.experiments.timing.runner import Runner


@dataclass(frozen=True)
class Part:
    """What a unit computes of the sweep: `cells` are indexes; of a comparison, all cells of the group."""

    kind: units.Kind
    cells: tuple[int, ...]
    shard: int | None = None


class UnitWork:
    """Prepares the units of a sweep and turns their endings into records. `on_record` is called once per cell.

    `is_alone` says whether a unit has a node to itself.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        results: Path,
        parts: Mapping[str, Part],
        planned: Sequence[units.PlannedCell],
        records: dict[int, Record],
        run_id: str,
        on_record: Callable[[int, Record], None],
        is_alone: Callable[[Unit], bool],
    ):
        self._cells, self._results, self._parts, self._planned = cells, results.resolve(), parts, planned
        self._records, self._run_id, self._on_record = records, run_id, on_record
        self._is_alone = is_alone
        self._versions = environment().versions
        self._has_any_started = False
        self._failed_shards: dict[int, Ending] = {}  # the first of each cell

    def prepare(self, unit: Unit) -> bool:
        part = self._parts[unit.name]
        planned, inputs = [self._planned[index] for index in part.cells], []
        if part.kind == "comparison":
            pairs = self._to_compare(part)
            if len(pairs) < 2:
                return False
            planned = [replace(self._planned[index], record_id=record.record_id) for index, record in pairs]
            inputs = [f"{record.record_id}/record.json" for _, record in pairs]
        elif part.kind == "shard":
            folder = self._shard_folder(part)
            if is_done(folder):
                return False
            inputs = [str(folder.relative_to(self._results))] if folder.exists() else []
        elif is_merged(cell := self._cells[part.cells[0]]):
            if self._fail_for_shards(unit, part.cells[0]):
                return False
            inputs = [str(folder.relative_to(self._results)) for folder in shard_folders(self._results, cell)]
        order = units.Order(
            token=unit.token,
            kind=part.kind,
            launcher=self._cells[0].config.launcher.name,
            results=str(self._results),
            working_folder=os.getcwd(),
            run_id=self._run_id,
            cells=planned,
            has_whole_node=self._is_alone(unit),
            shard=None if part.shard is None else (part.shard, self._cells[part.cells[0]].config.shards),
            inputs=inputs,
        )
        units.write_order(unit.folder, order)
        return True

    def _shard_folder(self, part: Part) -> Path:
        cell = self._cells[part.cells[0]]
        assert part.shard is not None
        return shard_folder(self._results, cell, part.shard, cell.config.shards)

    def _fail_for_shards(self, unit: Unit, index: int) -> bool:
        """Write the record of a cell one of whose shards failed, with its status and reason; False if none did."""
        cell = self._cells[index]
        ending = self._failed_shards.get(index)
        if ending is None and (failed := failed_shard(self._results, cell)) is not None:
            ending = Ending(failed.status, failed.reason)
        if ending is None:
            return False
        folder = self._new_folder(unit, index)
        write_sharding(folder / "journal.jsonl", self._results, cell, 0.0)
        self._records[index] = write_failure(folder, ending.status, ending.reason)
        self._on_record(index, self._records[index])
        return True

    def _to_compare(self, part: Part) -> list[tuple[int, Record]]:
        """Return the reference and the cells whose speed is to be compared with it; write all output comparisons."""
        measured = [
            (index, self._records[index])
            for index in part.cells
            if index in self._records and self._records[index].status == "ok"
        ]
        references = [pair for pair in measured if pair[1].is_reference]
        others = [(self._cells[index], record) for index, record in measured if not record.is_reference]
        if not references or not others:
            return []
        index, record = references[0]
        folders = {runner.folder.name for runner in candidates_of((self._cells[index], record), others, self._results)}
        return [(index, record), *(pair for pair in measured if pair[1].record_id in folders)]

    def submitted(self, unit: Unit, job: str) -> None:
        units.write_job(unit.folder, job)

    def has_started(self, unit: Unit) -> bool:
        return units.read_started(unit.folder, unit.token) is not None

    def outcome(self, unit: Unit) -> Ending | None:
        outcome = units.read_outcome(unit.folder, unit.token)
        return None if outcome is None else Ending(outcome.status, outcome.reason)

    def fail(self, unit: Unit, state: JobState) -> Ending:
        outcome = units.UnitOutcome(status=state.status, reason=self._reason(unit, state))
        if not units.write_outcome(unit.folder, unit.token, outcome):
            outcome = units.read_outcome(unit.folder, unit.token) or outcome
        return Ending(outcome.status, outcome.reason)

    def _reason(self, unit: Unit, state: JobState) -> str | None:
        """Return the reason; UserError if no process of the sweep has ever seen the folder."""
        if state.status != "crash" or state.node is None or self._has_any_started or self.has_started(unit):
            return state.reason
        raise UserError(
            f"results_dir={self._results}: {state.node} cannot use it, because its job left nothing there: give a "
            f"folder that is shared with the nodes, and the same installation ({state.reason})"
        )

    def lost(self, unit: Unit, reason: str) -> None:
        part = self._parts[unit.name]
        if part.kind == "cell":
            for folder in self._unrecorded(part.cells[0]):
                write_failure(folder, "interrupted", f"{reason}; it is measured again")

    def ended(self, unit: Unit, ending: Ending) -> None:
        self._has_any_started = self._has_any_started or self.has_started(unit)
        part = self._parts[unit.name]
        if part.kind == "cell":
            index = part.cells[0]
            self._records[index] = record = self._record(unit, index, ending)
            if record.status == "ok" and is_merged(self._cells[index]):
                remove_kept(self._results, self._cells[index])  # a node may have merged copies
            self._on_record(index, record)
        elif part.kind == "shard":
            if ending.status != "ok":
                count = self._cells[part.cells[0]].config.shards
                reason = f"shard {part.shard} of {count}: {ending.reason}"
                self._failed_shards.setdefault(part.cells[0], Ending(ending.status, reason))
        elif ending.status != "ok":
            self._note_in_comparison(unit, ending)

    def _record(self, unit: Unit, index: int, ending: Ending) -> Record:
        """Return the record that the unit wrote, or write one with how it ended."""
        outcome = units.read_outcome(unit.folder, unit.token)
        if outcome is not None and outcome.record_id is not None:
            path = self._results / outcome.record_id / "record.json"
            return read_record(json.loads(path.read_text(encoding="utf-8")))
        folder = next(iter(self._unrecorded(index)), None) or self._new_folder(unit, index)
        return write_failure(folder, ending.status, ending.reason)

    def _new_folder(self, unit: Unit, index: int) -> Path:
        """Return a new folder for the record of a cell whose unit did not begin to measure."""
        record_id = self._planned[index].record_id
        folder = self._results / units.try_id(record_id, 1 + len(units.tries(self._results, record_id)))
        folder.mkdir()
        Journal(folder / "journal.jsonl").write("cell", cell=self._identity(unit, index, folder.name))
        return folder

    def _unrecorded(self, index: int) -> list[Path]:
        """Return the folders of the cell's tries that have a journal and no record."""
        folders = units.tries(self._results, self._planned[index].record_id)
        return [
            folder
            for folder in folders
            if read_journal(folder / "journal.jsonl") and not (folder / "record.json").exists()
        ]

    def _identity(self, unit: Unit, index: int, record_id: str) -> CellIdentity:
        """Return the identity of a cell whose unit did not begin to measure. Its machine is unknown."""
        cell, planned = self._cells[index], self._planned[index]
        started = units.read_started(unit.folder, unit.token)
        node = started.node if started is not None else None
        versions = {**self._versions, **cell.code.versions}
        site = (
            None
            if started is None
            else Site(launcher=cell.config.launcher.name, node=started.node, cores=started.cores)
        )
        machine = Environment(hostname=node, versions=versions)
        sweep = planned.sweep or Sweep(id="", cells=len(self._cells), index=index)
        return identity_of_cell(cell, self._run_id, record_id, machine, planned.is_reference, sweep, site)

    def _note_in_comparison(self, unit: Unit, ending: Ending) -> None:
        """Write beside each record of a comparison that it ended early, and why."""
        order = units.read_order(unit.folder)
        if order is None:
            return
        index = {planned.config_hash: number for number, planned in enumerate(self._planned)}
        cells = [self._cells[index[planned.config_hash]] for planned in order.cells]
        runners = [
            Runner(cell, self._results / planned.record_id) for cell, planned in zip(cells, order.cells, strict=True)
        ]
        reference, options = runners[0], cells[0].config.comparison
        for runner in runners[1:]:
            speed = read_speed(runner.folder)
            launches = speed.launches if speed is not None and speed.against == reference.folder.name else []
            reason = f"{ending.status}: {ending.reason}"
            content = speed_content(reference, runner, options, launches, cells[0].config.launch == "fork", reason)
            write_atomic(runner.folder / SPEED_FILE, json.dumps(to_plain(content), allow_nan=False) + "\n")
