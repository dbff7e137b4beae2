"""The files through which a sweep and the processes of its units speak: what to do, that it began, how it ended.

Each is written atomically. An outcome is written once, by the process or by the sweep that gave it up: the first
counts.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from msgspec import Struct

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.launchers.transport import ORDER_FILE
from runtime_matrix.experiments.records.schema import Status, Sweep, to_plain, typed
from runtime_matrix.experiments.records.store import write_atomic

Kind = Literal["cell", "shard", "comparison"]
T = TypeVar("T")
_JOB_FILE = "job.json"


class PlannedCell(Struct, frozen=True, kw_only=True):
    """A cell that is planned again where it is measured. Another hash or digest there is an error."""

    resolved: JsonObject
    command: str
    config_hash: str
    code: str  # digest
    record_id: str  # a further try appends its number
    is_reference: bool
    sweep: Sweep | None = None


class Order(Struct, frozen=True, kw_only=True):
    """What a unit computes. Of a comparison, the first cell is the reference; the cells' records exist."""

    token: str
    kind: Kind
    launcher: str
    results: str
    working_folder: str  # to which relative paths belong
    run_id: str
    cells: list[PlannedCell]
    has_whole_node: bool
    shard: tuple[int, int] | None = None  # index and count
    inputs: list[str] = []  # files and folders that it reads, relative to `results`


class Started(Struct, frozen=True, kw_only=True):
    """The process that computes a unit."""

    node: str
    process: int
    cores: list[int]
    job: str | None = None  # of the scheduler, if it says so


class UnitOutcome(Struct, frozen=True, kw_only=True):
    """How a unit ended. `record_id` None: it is no cell, or no record was written."""

    status: Status
    reason: str | None = None
    record_id: str | None = None


def write_order(folder: Path, order: Order) -> None:
    """Write what a unit computes, and remove what an earlier unit of the folder left."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.name.startswith(("started-", "outcome-", _JOB_FILE)):
            file.unlink(missing_ok=True)
    _write(folder / ORDER_FILE, order)


def read_order(folder: Path) -> Order | None:
    """Return what the unit of a folder computes; None without a readable order."""
    return _read(folder / ORDER_FILE, Order)


def write_started(folder: Path, token: str) -> Started:
    """Write that this process computes the unit, and return it."""
    started = Started(
        node=socket.gethostname(),
        process=os.getpid(),
        cores=sorted(os.sched_getaffinity(0)),
        job=_slurm_job(),
    )
    _write(folder / f"started-{token}.json", started)
    return started


def read_started(folder: Path, token: str) -> Started | None:
    """Return the process that began to compute the unit last; None if none has."""
    return _read(folder / f"started-{token}.json", Started)


def write_job(folder: Path, job: str) -> None:
    """Write the id of the unit's job, so that a later command finds it."""
    write_atomic(folder / _JOB_FILE, json.dumps({"job": job}) + "\n")


def read_job(folder: Path, token: str) -> str | None:
    """Return the id of the unit's job; None if neither the sweep nor the job wrote it."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / _JOB_FILE).read_text(encoding="utf-8"))["job"])
    started = read_started(folder, token)
    return started.job if started is not None else None


def write_outcome(folder: Path, token: str, outcome: UnitOutcome) -> bool:
    """Write the outcome and return True; return False if there is one, which is not changed."""
    try:
        _write(folder / f"outcome-{token}.json", outcome, exclusive=True)
    except FileExistsError:
        return False
    return True


def read_outcome(folder: Path, token: str) -> UnitOutcome | None:
    """Return the outcome; None if there is none yet."""
    return _read(folder / f"outcome-{token}.json", UnitOutcome)


def tries(results: Path, record_id: str) -> list[Path]:
    """Return the folders of all tries of a cell, the first one first."""
    folders: list[Path] = []
    while (folder := results / try_id(record_id, len(folders) + 1)).exists():
        folders.append(folder)
    return folders


def try_id(record_id: str, number: int) -> str:
    """Return the record id of a try, counted from 1."""
    return record_id if number == 1 else f"{record_id}-try{number}"


def _slurm_job() -> str | None:
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _write(path: Path, content: Struct, exclusive: bool = False) -> None:
    write_atomic(path, json.dumps(to_plain(content), allow_nan=False) + "\n", exclusive)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return typed(json.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, ValueError):
        return None
