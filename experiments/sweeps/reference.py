"""The reference's outputs: computed once, stored as an artifact, and linked into the folder of each cell."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.supervisor import Outcome
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.schema import CellIdentity
from runtime_matrix.experiments.tasks.task import QualityTask, Task
from runtime_matrix.runtimes import artifacts

_JOB_FILES = ("journal.jsonl", "output.log", "manifest.json")  # files of the process that computed the outputs


class _NotComputedError(Exception):
    def __init__(self, outcome: Outcome):
        super().__init__(outcome.reason)
        self.outcome = outcome


def place_reference(cell: Cell, folder: Path, identity: CellIdentity, compute: Callable[[Path], Outcome]) -> Outcome:
    """Link the reference's outputs into the cell's folder; `compute` is called if they are not stored yet.

    Return the outcome of computing them. A failure is not stored, so the next cell tries again.
    """

    def build(scratch: Path) -> None:
        outcome = compute(scratch)
        if outcome.status != "ok":
            raise _NotComputedError(outcome)

    try:
        stored = artifacts.entry(cell.artifacts, "reference", made_from(cell, identity), build)
    except _NotComputedError as error:
        return error.outcome
    for file in stored.iterdir():
        if file.name not in _JOB_FILES:
            _link(file, folder / file.name)
    return Outcome("ok", None, 0)


def made_from(cell: Cell, identity: CellIdentity) -> JsonObject:
    """Return everything that the reference's outputs depend on, as JSON; it is the key of the artifact."""
    config = cell.config
    key: JsonObject = plain({
        "model": cell.facts.digest,
        "reference": asdict(config.reference),
        "dtype": config.runtime.dtype,
        "hw": asdict(config.hw),
        "threads": cell.threads,
        "seed": config.seed,
        "agreement": asdict(config.agreement),
        "scoring": asdict(config.scoring),
        "benchmarks": {task.name: _task_key(task, options) for task, options in config.benchmark.items()},
        "environment": identity.environment_hash,
        "code": identity.code.digest if identity.code is not None else None,
        # Uncommitted changes have no identity, so the outputs are valid only in this run.
        "run": identity.run_id if identity.environment.is_dirty is not False else None,
    })  # fmt: skip
    return key


def _task_key(task: Task[object], options: object) -> JsonObject | None:
    """Return what the reference's outputs for a benchmark depend on; None if it needs none."""
    if type(task).write_reference is Task.write_reference:
        return None
    data = task.path(options) if isinstance(task, QualityTask) else None
    digest = hashlib.sha256(data.read_bytes()).hexdigest() if data is not None and data.is_file() else None
    return {"version": task.version, "options": asdict(options), "data": digest}  # type: ignore[call-overload]


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system, or a file system without hard links
        shutil.copyfile(file, target)
