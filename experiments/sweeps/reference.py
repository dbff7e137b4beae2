"""The reference's outputs: computed once, stored as an artifact, and linked into the folder of each cell."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.data import calibration_path
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.outcome import Outcome
from runtime_matrix.experiments.records.environment import environment_hash, packages
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.schema import CellIdentity
from runtime_matrix.experiments.tasks.task import QualityTask, Task
from runtime_matrix.runtimes import artifacts

_SHOWN = ("apply", "applied", "expected_by", "expected")  # of a profile: they change no output
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
            _append(scratch / "output.log", folder / "output.log")  # the scratch folder is removed
            raise _NotComputedError(outcome)

    try:
        stored = artifacts.entry(cell.artifacts, "reference", made_from(cell, identity), build)
        for file in stored.iterdir():
            if file.name not in _JOB_FILES:
                _link(file, folder / file.name)
    except _NotComputedError as error:
        return error.outcome
    except OSError as error:  # a full disk, a file system without locks, an entry that another sweep removes
        return Outcome("error", f"the reference's outputs cannot be stored: {error}", None)
    return Outcome("ok", None, 0)


def made_from(cell: Cell, identity: CellIdentity) -> JsonObject:
    """Return everything that the reference's outputs depend on, as JSON; it is the key of the artifact."""
    config = cell.config
    code = cell.reference_code
    # Not the packages of the cell's own runtime, so that all runtimes share the reference.
    versions = {name: identity.environment.versions.get(name) for name in packages()}
    environment = replace(identity.environment, versions={**versions, **code.versions})
    own = cell.reference_facts
    key: JsonObject = plain({
        **({"model_of_reference": own.digest} if own is not None else {}),
        "model": cell.facts.digest,
        **({"max_tokens": config.model.max_tokens} if config.model.max_tokens is not None else {}),
        "reference": asdict(config.reference),
        "dtype": config.runtime.dtype,
        "hw": {key: value for key, value in asdict(config.hw).items() if key not in _SHOWN},
        "threads": cell.threads,
        "seed": config.seed,
        "agreement": asdict(config.agreement),
        "scoring": asdict(config.scoring),
        "calibration": [asdict(config.calibration), _digest(calibration_path(config.calibration.data))],
        "benchmarks": {
            task.name: _task_key(task, options) for task, options in config.benchmark.items() if _uses_reference(task)
        },
        "environment": environment_hash(environment),
        "code": code.digest,
        # Uncommitted changes have no identity, so the outputs are valid only in this run.
        "run": identity.run_id if identity.environment.is_dirty is not False else None,
    })  # fmt: skip
    return key


def _uses_reference(task: Task[object]) -> bool:
    methods = ("write_reference", "write_reference_in_own_dtype")
    return any(getattr(type(task), name) is not getattr(Task, name) for name in methods)


def _task_key(task: Task[object], options: object) -> JsonObject:
    """Return what the reference's outputs for a benchmark depend on."""
    data = task.path(options) if isinstance(task, QualityTask) else None
    digest = _digest(data) if data is not None else None
    return {"version": task.version, "options": asdict(options), "data": digest}  # type: ignore[call-overload]


def _digest(path: Path) -> str:
    """Return a digest of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _append(source: Path, target: Path) -> None:
    if source.is_file():
        with open(target, "ab") as log:
            log.write(source.read_bytes())


def _link(file: Path, target: Path) -> None:
    with suppress(OSError):  # the artifact of another user
        file.chmod(0o444)  # the cells share the file: none may write into it
    try:
        os.link(file, target)
    except OSError:  # another file system, or a file system without hard links
        shutil.copyfile(file, target)
