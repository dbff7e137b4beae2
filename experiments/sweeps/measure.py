"""Measure cells one after the other; with `resume`, recorded cells are not measured again."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, baselines
from runtime_matrix.experiments.cells.halving import halved
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.launchers.registry import LOCAL
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import (
    Environment,
    Record,
    SecondTry,
    Sweep,
)
from runtime_matrix.experiments.records.store import check_writable
from runtime_matrix.experiments.sweeps.one_cell import HardwarePeaks, identity_of_cell, measure_cell
from runtime_matrix.experiments.sweeps.resume import recorded_cells, settle, take
from runtime_matrix.experiments.sweeps.shards import check_bindings, compute_shards


def measure_cells(
    cells: Sequence[Cell],
    progress: Progress,
    on_record: Callable[[Record], None] = lambda record: None,
    deadline: Deadline | None = None,
) -> list[Record]:
    """Measure each cell alone and return one record per cell; with `resume`, matching earlier records are returned.

    With `retry=halve`, the record of a cell that ran out of memory is that of its second try: see `halving.as_run`.

    No cell is started after the deadline, so there may be fewer records than cells. UserError for an unwritable folder,
    for a launcher other than `local`, and for devices that this machine does not have.
    """
    launcher = cells[0].config.launcher.name
    if launcher != LOCAL:
        raise UserError(f"launcher={launcher} is for sweeps, python -m experiments.run; this command measures here")
    results = Path(cells[0].config.results_dir)
    check_writable(results)
    check_writable(cells[0].artifacts, "artifacts_dir")
    check_bindings(cells)
    progress.note(f"records are written to {results}")
    settle(results)
    machine = environment()
    recorded = recorded_cells(results, cells[0].config.tries) if cells[0].config.resume else []
    children = Children(
        cells[0].config.launch, {str(cell.facts.model_type) for cell in cells}, max(cell.threads for cell in cells)
    )
    peaks = HardwarePeaks(cells, children, progress)
    run_id, sweep = run_stamp(), sweep_id(cells)
    records: list[Record] = []
    references = baselines(cells)
    last_s = 0.0  # duration of the last cell

    def measured(cell: Cell, index: int, second_try: SecondTry | None = None) -> tuple[Record, bool] | None:
        """Return the cell's record and whether it is an earlier one; None if the deadline has passed."""
        cell_environment = _with_versions(machine, cell)
        is_reference = index in references
        earlier = take(recorded, cell, cell_environment)
        if earlier is not None:
            return replace(earlier, is_reference=is_reference, second_try=second_try), True
        if deadline is not None and deadline.is_over(last_s):
            return None
        place = Sweep(id=sweep, cells=len(cells), index=index)
        record_id = f"{run_id}-{index:02d}-{cell.label}-{cell.config_hash[:6]}"
        identity = identity_of_cell(cell, run_id, record_id, cell_environment, is_reference, place)
        children.expect(cells[index + 1] if index + 1 < len(cells) else None)
        record = measure_cell(
            *(cell, results / record_id, identity, children, progress, peaks),
            compute_shards=partial(compute_shards, cell, children, progress),
            second_try=second_try,
        )
        return record, False

    with closing(children):
        for index, cell in enumerate(cells):
            start = time.monotonic()
            progress.start(cell.label)
            found = measured(cell, index)
            if found is not None and (again := _second_try(cell, found[0], progress)) is not None:
                found = measured(again[0], index, again[1])
            if found is None:
                break
            record, was_resumed = found
            records.append(record)
            if not was_resumed and record.status == "ok":
                last_s = time.monotonic() - start
            progress.finish(record.status, record.reason, was_resumed=was_resumed)
            on_record(record)
    return records


def _second_try(cell: Cell, record: Record, progress: Progress) -> tuple[Cell, SecondTry] | None:
    """Return the cell with half the batches, after it ran out of memory, if that is wanted and possible."""
    if record.status != "out_of_memory" or cell.config.retry != "halve":
        return None
    smaller = halved(cell, record.load.batch_tokens if record.load is not None else None)
    if smaller is None:
        progress.note(f"{cell.label}: out of memory, and no batch can be halved")
        return None
    progress.note(f"{cell.label}: out of memory; a second try with {smaller[1]}")
    return smaller[0], SecondTry(first=record.record_id, halved=smaller[1])


def _with_versions(machine: Environment, cell: Cell) -> Environment:
    """Return the environment with the versions of the packages that the cell's runtime imports."""
    return replace(machine, versions={**machine.versions, **cell.code.versions})


def sweep_id(cells: Sequence[Cell]) -> str:
    """Return 16 hex digits that are equal for sweeps of the same cells."""
    return hashlib.sha256(" ".join(cell.config_hash for cell in cells).encode()).hexdigest()[:16]


def run_stamp() -> str:
    """Return a new run id, which begins with the time."""
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
