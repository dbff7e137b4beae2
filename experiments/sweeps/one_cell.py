"""Measure one cell of a sweep: run its jobs and write its record, also after a failure."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import is_merged
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.outcome import Outcome
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.records.assemble import assemble
from runtime_matrix.experiments.records.environment import environment_hash
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.memory_text import too_large
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.schema import (
    AdapterIdentity,
    CellIdentity,
    Environment,
    HardwareIdentity,
    HardwarePeak,
    MemoryEstimate,
    ModelIdentity,
    Record,
    RuntimeIdentity,
    SecondTry,
    Site,
    Status,
    Sweep,
    typed,
)
from runtime_matrix.experiments.records.store import write_record
from runtime_matrix.experiments.records.unfinished import running
from runtime_matrix.experiments.sweeps.merging import failed_shard, write_sharding
from runtime_matrix.experiments.sweeps.reference import place_reference
from runtime_matrix.experiments.sweeps.shards import remove_kept
from runtime_matrix.experiments.tasks.registry import every_task


class Ended(KeyboardInterrupt):
    """A scheduler ends this process. Who started it knows why, and writes the record."""


class HardwarePeaks:
    """The hardware peaks, measured before the first timed cell and written to the journal of each."""

    def __init__(self, cells: Sequence[Cell], children: Children, progress: Progress):
        self._cells = [cell for cell in cells if cell.config.benchmark.use_hardware_peak]
        self._children, self._progress = children, progress
        self._known: dict[tuple[str, int], HardwarePeak | None] = {}  # by hardware profile and threads

    def write(self, cell: Cell, folder: Path) -> None:
        """Write the hardware peak to the cell's journal, if its benchmarks use it; it is measured at most once."""
        if not cell.config.benchmark.use_hardware_peak:
            return
        key = (cell.config.hw.name, cell.threads)
        journal = folder / "journal.jsonl"
        if key in self._known:
            peak = self._known[key]
            if peak is not None:
                Journal(journal).write("hardware_peak", peak)
            return
        alike = [other for other in self._cells if (other.config.hw.name, other.threads) == key]
        dtypes = sorted({other.config.runtime.dtype for other in alike})
        self._progress.on_message(("benchmark", "hardware peak"))
        _timed("hardware_peak", cell, folder, self._children, self._progress.on_message, dtypes)
        events = [event for event in read_journal(journal) if event["event"] == "hardware_peak"]
        self._known[key] = typed(events[-1], HardwarePeak) if events else None


def measure_cell(
    cell: Cell,
    folder: Path,
    identity: CellIdentity,
    children: Children,
    progress: Progress,
    peaks: HardwarePeaks,
    compute_shards: Callable[[], object] = lambda: None,
    second_try: SecondTry | None = None,
) -> Record:
    """Measure a cell in `folder`, which is created, and return the record that was written; it names any failure.

    A cell with shards is merged from what they have kept. `compute_shards` is called before, when the cell's check has
    passed; a shard that is missing then, or failed, is the outcome of the cell.

    After a signal the record is written too, and KeyboardInterrupt is raised again; after `Ended` it is not written.
    """
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.jsonl")
    with running(folder):
        try:
            journal.write("cell", cell=identity)
            if second_try is not None:
                journal.write("second_try", second_try)
            outcome = _timed("check", cell, folder, children, progress.on_message)
            if outcome.status == "ok":
                outcome = _fitting(cell, read_journal(folder / "journal.jsonl"), progress) or outcome
            if outcome.status == "ok":
                peaks.write(cell, folder)
                if is_merged(cell):
                    compute_shards()
                    outcome = _merge(cell, folder, identity, children, progress)
                else:
                    outcome = _jobs(cell, folder, identity, children, progress)
        except KeyboardInterrupt as stopped:
            if read_journal(folder / "journal.jsonl") and not isinstance(stopped, Ended):
                reason = getattr(stopped, "reason", "interrupted by the user")
                _write(folder, Outcome("interrupted", reason, None))
            raise
        return _write(folder, outcome)


def _fitting(cell: Cell, events: Sequence[JsonObject], progress: Progress) -> Outcome | None:
    """Say that the cell is estimated to need more memory than is free; an outcome if that is refused."""
    found = [typed(event, MemoryEstimate) for event in events if event["event"] == "memory_estimate"]
    line = too_large(found[-1]) if found else None
    if line is None or cell.config.fit == "ignore":
        return None
    if cell.config.fit == "refuse":
        return Outcome("unsupported", f"{line}: use fit=warn to run it anyway", None)
    progress.note(f"{cell.label}: {line}")
    return None


def _merge(cell: Cell, folder: Path, identity: CellIdentity, children: Children, progress: Progress) -> Outcome:
    """Run the cell with the responses of its shards, which are removed if that succeeds."""
    results, start = Path(cell.config.results_dir), time.monotonic()
    failed = failed_shard(results, cell)
    outcome = failed or _jobs(cell, folder, identity, children, progress)
    write_sharding(folder / "journal.jsonl", results, cell, time.monotonic() - start)
    if outcome.status == "ok":
        remove_kept(results, cell)
    return outcome


def _jobs(cell: Cell, folder: Path, identity: CellIdentity, children: Children, progress: Progress) -> Outcome:
    """Run the reference, so that outputs are checked before timing, then the benchmarks, then the replay."""
    journal = folder / "journal.jsonl"
    if cell.config.agreement.enabled:
        progress.on_message(("benchmark", "reference"))

        def compute(scratch: Path) -> Outcome:
            return _timed("reference", cell, scratch, children, progress.on_message, journal=journal)

        reference = place_reference(cell, folder, identity, compute)
        if reference.status != "ok":
            Journal(journal).write("no_reference", job="reference", status=reference.status, reason=reference.reason)
    try:
        outcome = _timed("measure", cell, folder, children, progress.on_message)
    finally:
        remove_temporary_files(folder)
    if cell.config.agreement.enabled and outcome.status == "ok" and _has_timed_tokens(journal):
        progress.on_message(("benchmark", "replay"))
        _timed("replay", cell, folder, children, progress.on_message)
    return outcome


def _has_timed_tokens(journal: Path) -> bool:
    return any((event.get("timed_tokens") or {}).get("new") for event in read_journal(journal))


def _timed(
    name: str,
    cell: Cell,
    folder: Path,
    children: Children,
    on_progress: Callable[[Any], None],
    *arguments: Any,
    journal: Path | None = None,
) -> Outcome:
    """Run a job in a folder; write the wall and CPU time of its process to `journal`, by default the folder's own."""
    children.wait_for_server(on_progress)
    start = time.monotonic()
    outcome = children.run(name, cell, folder, cell.config.time_limit_s, on_progress, *arguments)
    spent: dict[str, Any] = {"wall_s": round(time.monotonic() - start, 4), "cpu_s": outcome.cpu_s}
    Journal(journal or folder / "journal.jsonl").write("job", name=name, **spent)
    return outcome


def _write(folder: Path, outcome: Outcome) -> Record:
    events = read_journal(folder / "journal.jsonl")
    record = assemble(
        events, status=outcome.status, reason=outcome.reason, exit_code=outcome.exit_code, finished_at=_now()
    )
    write_record(folder, record)
    return record


def write_failure(folder: Path, status: Status, reason: str | None) -> Record:
    """Write the record of a cell whose process ended without one, from its journal, and return it.

    If the process has written one meanwhile, that is returned.
    """
    try:
        record = _write(folder, Outcome(status, reason, None))
    except FileExistsError:
        return read_record(json.loads((folder / "record.json").read_text(encoding="utf-8")))
    remove_temporary_files(folder)
    return record


def identity_of_cell(
    cell: Cell,
    run_id: str,
    record_id: str,
    machine: Environment,
    is_reference: bool,
    sweep: Sweep,
    site: Site | None = None,
) -> CellIdentity:
    """Return the part of a record that is known before the cell is measured; it starts now."""
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
            adapter=_adapter_identity(cell),
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
        site=site,
    )


def _adapter_identity(cell: Cell) -> AdapterIdentity | None:
    adapter = cell.adapter
    if adapter is None:
        return None
    return AdapterIdentity(
        name=adapter.name,
        digest=adapter.digest,
        base_digest=cell.source.base.digest,
        rank=adapter.rank,
        parameters=adapter.parameters,
        is_merged=cell.config.merge_adapter,
    )


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of all benchmarks from a cell's folder."""
    for task in every_task().values():
        for name in task.temporary_files:
            (folder / name).unlink(missing_ok=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
