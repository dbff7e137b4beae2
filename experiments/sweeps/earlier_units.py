"""Units of an earlier command that was killed: jobs that still run, and records that they could not write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.launchers.launcher import JobState, Scheduler, Unit
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.one_cell import write_failure

_LOCK = "sweep.lock"


@dataclass(frozen=True)
class Earlier:
    """A unit of an earlier command with its job."""

    order: units.Order
    job: str


@contextlib.contextmanager
def only_sweep(folder: Path) -> Iterator[None]:
    """Lock the units of a results folder until the block or this process ends. UserError if another sweep has them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UserError(
                f"results_dir={folder.parent}: another sweep ({lock.read().strip()}) uses it: wait for its end, or "
                "choose another folder"
            ) from error
        except OSError:
            pass  # a file system without locks
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def earlier_units(sweep_units: Sequence[Unit], scheduler: Scheduler) -> tuple[dict[str, Earlier], dict[str, Earlier]]:
    """Return the units of an earlier command without an outcome, by name: those whose jobs run or wait, and the others.

    Unreachable if the scheduler does not answer: then nothing may be started a second time.
    """
    candidates = {unit.name: earlier for unit in sweep_units if (earlier := _without_outcome(unit.folder)) is not None}
    states = scheduler.poll([earlier.job for earlier in candidates.values()])
    alive = {name for name, earlier in candidates.items() if _is_alive(states, earlier.job)}
    dead = {name: earlier for name, earlier in candidates.items() if name not in alive}
    return {name: candidates[name] for name in alive}, dead


def write_missing_record(earlier: Earlier, state: JobState, results: Path) -> None:
    """Write the record of a cell whose job ended while no command watched it, if it had begun."""
    if earlier.order.kind == "cell":
        for folder in units.tries(results, earlier.order.cells[0].record_id):
            if not (folder / "record.json").exists():
                write_failure(folder, state.status if state.phase == "ended" else "interrupted", state.reason)


def _without_outcome(folder: Path) -> Earlier | None:
    order = units.read_order(folder)
    if order is None or units.read_outcome(folder, order.token) is not None:
        return None
    job = units.read_job(folder, order.token)
    return None if job is None else Earlier(order, job)


def _is_alive(states: Mapping[str, JobState], job: str) -> bool:
    return job in states and states[job].phase in ("waiting", "running")
