"""Run a sweep: measure its cells, compare them, export the results, and show the matrix."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.halving import as_run
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.exporters.exporters import configured
from runtime_matrix.experiments.launchers.registry import LOCAL
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import (
    FAILED,
    Record,
)
from runtime_matrix.experiments.records.store import attach, check_writable
from runtime_matrix.experiments.reports.reading import NEWEST, PAGE_FILE, read, write_page
from runtime_matrix.experiments.reports.text import render_table, width
from runtime_matrix.experiments.sweeps.after_sweep import compare_with_reference
from runtime_matrix.experiments.sweeps.distributed import launcher_of, measure_distributed
from runtime_matrix.experiments.sweeps.first_look import FirstLook
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.sweeps.one_shard import run_one_shard
from runtime_matrix.runtimes.artifacts import prune


@dataclass(frozen=True)
class Outcome:
    """The results of a sweep."""

    records: list[Record]  # one per cell that was started
    results: list[Result]  # the records with their comparisons
    is_whole: bool  # False: a deadline left cells or comparisons out


def sweep(cells: Sequence[Cell]) -> Outcome:
    """Measure each cell in its own process, compare the cells with their reference, and export the results.

    UserError for exporters or a launcher that cannot be used, before anything is measured.
    """
    results = Path(cells[0].config.results_dir)
    deadline = Deadline(cells[0].config.stop_after_s)
    check_writable(results)
    scheduler = launcher_of(cells).connect(results)
    exporters = configured(cells[0].config.monitoring)
    try:
        exporters.start(len(cells))
        with Progress(len(cells), cells[0].config.progress) as progress:
            _note_recommended(cells, progress)
            if scheduler is None:
                records, is_whole = _measure_here(cells, results, progress, exporters.record, deadline)
            else:
                records, is_whole = measure_distributed(cells, scheduler, progress, exporters.record, deadline)
            compared = attach(records, results)
            exporters.compared(compared)
    finally:
        exporters.close()
        if scheduler is not None:
            scheduler.close()
    return Outcome(records, compared, is_whole and len(records) == len(cells))


def _measure_here(
    cells: Sequence[Cell],
    results: Path,
    progress: Progress,
    on_record: Callable[[Record], None],
    deadline: Deadline,
) -> tuple[list[Record], bool]:
    look = FirstLook(cells, results, progress.note, progress.tell)

    def on_each(record: Record) -> None:
        on_record(record)
        look.record(record, deadline, progress.tick)

    records = measure_cells(cells, progress, on_each, deadline)
    # A deadline leaves some out.
    measured = [as_run(cell, record) for cell, record in zip(cells, records, strict=False)]
    return records, compare_with_reference(measured, records, results, progress.note, deadline, progress.tick)


def run_sweep(cells: Sequence[Cell]) -> int:
    """Measure the cells, print the matrix, write the page, and return the exit code; `shard=K`: see `one_shard`."""
    if cells[0].config.shard is not None:
        launcher = launcher_of(cells).name
        if launcher != LOCAL:
            raise UserError(f"shard={cells[0].config.shard} computes a shard here: leave out launcher={launcher}")
        return run_one_shard(cells)
    outcome, results = sweep(cells), Path(cells[0].config.results_dir)
    if not outcome.is_whole:
        left = len(cells) - len(outcome.records)
        missing = f"{left} cells" if left else "comparisons"
        print(f"stop_after_s: {missing} are left; the same command with resume=true continues")
    _show(outcome.results, results)
    _write_page(results)
    _prune(cells[0].artifacts, cells[0].config.artifacts_gib, outcome.records)
    return _exit_code(rows(outcome.results, all=True))


def _note_recommended(cells: Sequence[Cell], progress: Progress) -> None:
    for hw in {(cell.config.hw.name, cell.config.hw.applied): cell.config.hw for cell in cells}.values():
        if hw.apply:
            progress.note(f"hw.apply: {', '.join(hw.applied) or 'nothing, other settings or a shorter model win'}")
        elif hw.recommended.advice:
            progress.note(f"hw={hw.name} recommends {hw.recommended.advice}; hw.apply=true applies it")


def _prune(root: Path, gib: float, records: Sequence[Record]) -> None:
    """Print how many artifacts were built and reused; remove the least recently used beyond the size limit."""
    tallies = [record.load.artifacts for record in records if record.load is not None]
    built, reused = (int(sum(tally.get(name, 0) for tally in tallies)) for name in ("built", "found"))
    if built or reused:
        print(f"artifacts: {built} built, {reused} reused from {root}")
    removed = prune(root, int(gib * 2**30))
    if removed:
        print(f"removed the {len(removed)} least recently used artifacts: artifacts_gib={gib:g}")


def _show(compared: Sequence[Result], results: Path) -> None:
    from rich.console import Console

    render_table(rows(compared, all=True), Console(width=width()))
    print(f"records: {results}/*/record.json   this matrix again: {command_line('report', [str(results)])}")


def _write_page(results: Path) -> None:
    """Write the page of all records in the folder. A failure is reported and does not end the sweep."""
    try:
        write_page(*read(results, NEWEST), results / PAGE_FILE)
    except Exception as error:
        print(f"no page: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        print(f"page: {results / PAGE_FILE}   open it in a browser, or send it: it is a single file")


def _exit_code(matrix: Sequence[Row]) -> int:
    """Return 1 if a cell failed, else 0 if one was measured, else 3."""
    statuses = {row.status for row in matrix}
    if statuses & FAILED:
        return 1
    return 0 if "ok" in statuses else 3
