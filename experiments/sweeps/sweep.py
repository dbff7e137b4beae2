"""A sweep: its cells one after the other, a record each whatever happens, then the matrix."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import Cell, baselines
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.execution.supervisor import Children, Outcome
from runtime_matrix.experiments.exporters.exporters import configured
from runtime_matrix.experiments.records.assemble import assemble
from runtime_matrix.experiments.records.environment import environment, environment_hash
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.schema import (
    FAILED,
    CellIdentity,
    Environment,
    HardwareIdentity,
    HardwarePeak,
    ModelIdentity,
    Record,
    Result,
    Row,
    RuntimeIdentity,
    Sweep,
    typed,
)
from runtime_matrix.experiments.records.store import attach, check_writable, read_results, write_record
from runtime_matrix.experiments.records.unfinished import running, unfinished
from runtime_matrix.experiments.tasks.registry import every_task


def run_sweep(cells: Sequence[Cell]) -> int:
    """Measure the cells, print the matrix, return the exit code."""
    results = Path(cells[0].config.results_dir)
    deadline = Deadline(cells[0].config.stop_after_s)
    exporters = configured(cells[0].config.monitoring)
    try:
        exporters.start(len(cells))
        with Progress(len(cells), cells[0].config.progress) as progress:
            _tell_recommended(cells, progress)
            from runtime_matrix.experiments.sweeps.after_sweep import compare_with_reference
            from runtime_matrix.experiments.sweeps.first_look import FirstLook

            look = FirstLook(cells, results, progress.note, progress.tell)

            def on_record(record: Record) -> None:
                exporters.record(record)
                look.record(record, deadline, progress.tick)

            records = measure_cells(cells, progress, on_record, deadline)

            is_whole = compare_with_reference(
                cells[: len(records)], records, results, progress.note, deadline, progress.tick
            )
            compared = attach(records, results)
            exporters.compared(compared)
    finally:
        exporters.close()
    left = len(cells) - len(records)
    if left or not is_whole:
        what = f"{left} cells" if left else "comparisons"
        print(f"stop_after_s: {what} are left; the same command with resume=true goes on")
    _show(compared, results)
    _write_page(results)
    _keep_small(cells[0].artifacts, cells[0].config.artifacts_gib, records)
    return _exit_code(rows(compared, all=True))


def _tell_recommended(cells: Sequence[Cell], progress: Progress) -> None:
    for hw in {cell.config.hw.name: cell.config.hw for cell in cells}.values():
        if hw.recommended.advice:
            progress.note(f"hw={hw.name} recommends {hw.recommended.advice}")


def _keep_small(root: Path, gib: float, records: Sequence[Record]) -> None:
    """Say what was built, and remove what was not used for longest where the cache has grown too large."""
    from runtime_matrix.runtimes.artifacts import prune

    tallies = [record.load.artifacts for record in records if record.load is not None]
    built, reused = (int(sum(tally.get(name, 0) for tally in tallies)) for name in ("built", "found"))
    if built or reused:
        print(f"artifacts: {built} built, {reused} found in {root}")
    removed = prune(root, int(gib * 2**30))
    if removed:
        print(f"removed {len(removed)} artifacts that were not used for longest: artifacts_gib={gib:g}")


def measure_cells(
    cells: Sequence[Cell],
    progress: Progress,
    on_record: Callable[[Record], None] = lambda record: None,
    deadline: Deadline | None = None,
) -> list[Record]:
    """Measure each cell alone and return their records, those of finished earlier ones where `resume` is set.

    None is begun after the deadline: then there are fewer records than cells.
    """
    results = Path(cells[0].config.results_dir)
    check_writable(results)
    check_writable(cells[0].artifacts, "artifacts_dir")
    progress.note(f"records go to {results}")
    _settle(results)
    machine = environment()
    recorded = _recorded(results, cells[0].config.tries) if cells[0].config.resume else []
    children = Children(
        cells[0].config.launch, {str(cell.facts.model_type) for cell in cells}, max(cell.threads for cell in cells)
    )
    peaks = _HardwarePeaks(cells, children, progress)
    run_id = _stamp()
    sweep_id = hashlib.sha256(" ".join(cell.config_hash for cell in cells).encode()).hexdigest()[:16]
    records: list[Record] = []
    compared_with = baselines(cells)
    last_s = 0.0  # that the last cell took
    for index, cell in enumerate(cells):
        here = _with_versions(machine, cell)
        earlier = _take(recorded, cell, here)
        if earlier is None and deadline is not None and deadline.is_over(last_s):
            break
        start = time.monotonic()
        progress.start(cell.label)
        is_reference = index in compared_with
        if earlier is not None:
            record = replace(earlier, is_reference=is_reference)
        else:
            sweep = Sweep(id=sweep_id, cells=len(cells), index=index)
            record_id = f"{run_id}-{index:02d}-{cell.label}-{cell.config_hash[:6]}"
            identity = _identity(cell, run_id, record_id, here, is_reference, sweep)
            record = _measure(cell, results / record_id, identity, children, progress, peaks)
        records.append(record)
        if earlier is None and record.status == "ok":
            last_s = time.monotonic() - start
        progress.finish(record.status, record.reason, was_resumed=earlier is not None)
        on_record(record)
    return records


def _remove_temporary_files(folder: Path) -> None:
    for task in every_task().values():
        for name in task.temporary_files:
            (folder / name).unlink(missing_ok=True)


class _HardwarePeaks:
    """What the machine can do at most: measured when the first cell that is timed begins, and journaled in each."""

    def __init__(self, cells: Sequence[Cell], children: Children, progress: Progress):
        self._cells = [cell for cell in cells if cell.config.benchmark.use_hardware_peak]
        self._children, self._progress = children, progress
        self._known: dict[tuple[str, int], HardwarePeak | None] = {}  # by hardware profile and threads

    def write(self, cell: Cell, folder: Path) -> None:
        if not cell.config.benchmark.use_hardware_peak:
            return
        key = (cell.config.hw.name, cell.threads)
        journal = folder / "journal.jsonl"
        if key in self._known:
            known = self._known[key]
            if known is not None:
                Journal(journal).write("hardware_peak", known)
            return
        alike = [one for one in self._cells if (one.config.hw.name, one.threads) == key]
        dtypes = sorted({one.config.runtime.dtype for one in alike})
        self._progress.hear(("benchmark", "hardware peak"))
        _timed("hardware_peak", cell, folder, self._children, self._progress.hear, dtypes)
        events = [event for event in read_journal(journal) if event["event"] == "hardware_peak"]
        self._known[key] = typed(events[-1], HardwarePeak) if events else None


def _measure(
    cell: Cell, folder: Path, identity: CellIdentity, children: Children, progress: Progress, peaks: _HardwarePeaks
) -> Record:
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.jsonl")
    with running(folder):
        try:
            journal.write("cell", cell=identity)
            outcome = _timed("check", cell, folder, children, progress.hear)
            if outcome.status == "ok":
                peaks.write(cell, folder)
                outcome = _jobs(cell, folder, children, progress)
        except KeyboardInterrupt as stopped:
            if read_journal(folder / "journal.jsonl"):
                reason = getattr(stopped, "reason", "interrupted by the user")
                _write(folder, Outcome("interrupted", reason, None))
            raise
        return _write(folder, outcome)


def _jobs(cell: Cell, folder: Path, children: Children, progress: Progress) -> Outcome:
    """The reference first, so that agreement is known before any timing; what was timed is replayed afterwards."""
    if cell.config.agreement.enabled:
        progress.hear(("benchmark", "reference"))
        reference = _timed("reference", cell, folder, children, progress.hear)
        if reference.status != "ok" and reference.status != "unsupported":
            Journal(folder / "journal.jsonl").write("no_reference", reason=reference.reason)
    try:
        outcome = _timed("measure", cell, folder, children, progress.hear)
    finally:
        _remove_temporary_files(folder)
    if cell.config.agreement.enabled and outcome.status == "ok":
        progress.hear(("benchmark", "replay"))
        _timed("replay", cell, folder, children, progress.hear)
    return outcome


def _timed(
    name: str, cell: Cell, folder: Path, children: Children, hear: Callable[[Any], None], *arguments: Any
) -> Outcome:
    """Run a job, and journal the wall time that its process took from start to end."""
    children.wait_for_server(hear)
    start = time.monotonic()
    outcome = children.run(name, cell, folder, cell.config.time_limit_s, hear, *arguments)
    Journal(folder / "journal.jsonl").write("job", name=name, wall_s=round(time.monotonic() - start, 4))
    return outcome


def _write(folder: Path, outcome: Outcome) -> Record:
    events = read_journal(folder / "journal.jsonl")
    record = assemble(
        events, status=outcome.status, reason=outcome.reason, exit_code=outcome.exit_code, finished_at=_now()
    )
    write_record(folder, record)
    return record


def _identity(
    cell: Cell, run_id: str, record_id: str, machine: Environment, is_reference: bool, sweep: Sweep
) -> CellIdentity:
    runtime = cell.config.runtime
    return CellIdentity(
        run_id=run_id,
        record_id=record_id,
        started_at=_now(),
        runtime=RuntimeIdentity(
            name=runtime.title,
            engine=str(runtime.engine["name"]),
            weights=str(runtime.weights["name"]),
            placement=str(runtime.placement["name"]),
            dtype=runtime.dtype,
        ),
        model=ModelIdentity(
            name=cell.model_name,
            title=models.title(cell.facts, cell.model_name),
            digest=cell.facts.digest,
            shape=cell.facts.shape,
        ),
        hw=HardwareIdentity(name=cell.config.hw.name, device=cell.config.hw.device, threads=cell.threads),
        config=cell.resolved,
        config_hash=cell.config_hash,
        benchmark_versions=cell.config.benchmark.versions(),
        environment=machine,
        environment_hash=environment_hash(machine),
        code=cell.code,
        launch=cell.config.launch,
        command=cell.command,
        is_reference=is_reference,
        sweep=sweep,
    )


def _settle(results: Path) -> None:
    """Record what earlier runs left unrecorded because they were killed."""
    for folder, record in unfinished(results):
        write_record(folder, record)
        _remove_temporary_files(folder)


def _recorded(results: Path, tries: int) -> list[Record]:
    """Return what is recorded as ok, as unsupported, or as failed for the last of so many tries; the newest first.

    What the machine lacked before anything was loaded is tried again: it takes a second, and may have been installed.
    """
    records = [result.record for result in read_results(results)[0]]
    failures = Counter(_same(record) for record in records if record.status in FAILED)

    def is_settled(record: Record) -> bool:
        if record.status in FAILED:
            return failures[_same(record)] >= tries
        is_of_check = record.status == "unsupported" and not record.jobs.keys() - {"check"}
        return record.status in ("ok", "unsupported") and not is_of_check

    settled = [record for record in reversed(records) if is_settled(record)]
    return sorted(settled, key=lambda record: record.status != "ok")  # what was measured once stays measured


def _same(record: Record) -> tuple[str, str, str]:
    """Return what records of the same cell, environment and code have in common."""
    return record.config_hash, record.environment_hash, repr(record.code)


def _take(recorded: list[Record], cell: Cell, here: Environment) -> Record | None:
    """Return the newest record of the same cell, environment and code, and take it from the list.

    One record stands for one cell: a runtime against itself needs two.
    """
    if not recorded:
        return None
    wanted = (cell.config_hash, environment_hash(here), cell.code)
    for index, record in enumerate(recorded):
        if (record.config_hash, record.environment_hash, record.code) == wanted:
            return recorded.pop(index)
    return None


def _with_versions(machine: Environment, cell: Cell) -> Environment:
    """Return the environment, with the versions of the packages that this cell's runtime imports."""
    return replace(machine, versions={**machine.versions, **cell.code.versions})


def _show(compared: Sequence[Result], results: Path) -> None:
    from rich.console import Console

    from runtime_matrix.experiments.reports.text import render_table, width

    render_table(rows(compared, all=True), Console(width=width()))
    print(f"records: {results}/*/record.json   this matrix again: {command_line('report', [str(results)])}")


def _write_page(results: Path) -> None:
    """Write the page of all that is recorded there. What was measured is kept, whatever becomes of the page."""
    from runtime_matrix.experiments.reports.reading import NEWEST, PAGE_FILE, read, write_page

    try:
        write_page(*read(results, NEWEST), results / PAGE_FILE)
    except Exception as error:
        print(f"no page: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        print(f"page: {results / PAGE_FILE}   open it in a browser, or send it: it is one file")


def _exit_code(matrix: Sequence[Row]) -> int:
    """0 measured, 1 something failed, 3 nothing could be measured here."""
    statuses = {row.status for row in matrix}
    if statuses & FAILED:
        return 1
    return 0 if "ok" in statuses else 3


def _stamp() -> str:
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
