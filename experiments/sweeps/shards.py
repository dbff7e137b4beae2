"""Compute the shards of a cell, each in a process of its own that continues what its folder holds."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import (
    FOLDER,
    KEPT_FILE,
    SHARD_FILE,
    cell_key,
    shard_cell,
    shard_folder,
    shard_folders,
)
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.binding import Binding, bindings
from runtime_matrix.experiments.execution.outcome import Outcome
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.execution.running import Job
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.records.environment import environment, environment_hash, machine_kind
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.schema import Status, to_plain, typed
from runtime_matrix.experiments.records.sharding import ShardRecord
from runtime_matrix.experiments.records.store import write_atomic

_LOCK = "running.lock"  # locked by the process that computes the shard; the lock ends with the process
# Another attempt may end otherwise. A shard that is interrupted while its parent runs was ended by something else.
_REPEATED: frozenset[Status] = frozenset({"crash", "out_of_memory", "interrupted"})


def run_shard(cell: Cell, index: int, count: int, children: Children, progress: Progress) -> ShardRecord:
    """Compute one shard in a child process and return its record, which is written to its folder.

    One that is recorded as ok is not computed again. UserError if another process computes it.
    """
    assert count == cell.config.shards
    return _run(cell, [index], children, progress)[0]


def run_shards(cell: Cell, count: int, children: Children, progress: Progress) -> list[ShardRecord]:
    """Compute all shards of a cell that are missing at the same time, and return the records of all."""
    assert count == cell.config.shards
    return _run(cell, range(count), children, progress)


def compute_shards(cell: Cell, children: Children, progress: Progress) -> None:
    """Compute the shards of a cell; without `resume`, what earlier runs computed of them is removed before."""
    if not cell.config.resume:
        clear_shards(Path(cell.config.results_dir), cell)
    run_shards(cell, cell.config.shards, children, progress)


def clear_shards(results: Path, cell: Cell) -> None:
    """Remove what earlier runs computed of the cell's shards. UserError if another process computes one of them."""
    folders = sorted((results / FOLDER / cell_key(cell)).glob("*-of-*"))
    for folder in folders:
        with only_process(folder):
            shutil.rmtree(folder, ignore_errors=True)


def check_bindings(cells: Sequence[Cell]) -> None:
    """Raise UserError if this machine does not have the devices or cores that `hw.devices` divides among shards."""
    for cell in cells:
        if cell.config.shards > 1:
            _bindings(cell)


def remove_kept(results: Path, cell: Cell) -> None:
    """Remove the responses of a cell's shards, which its record has; their records stay."""
    for folder in shard_folders(results, cell):
        for end in ("", "-wal", "-shm"):
            (folder / f"{KEPT_FILE}{end}").unlink(missing_ok=True)


def read_shard(folder: Path) -> ShardRecord | None:
    """Return the record of a shard; None if there is none that can be read."""
    try:
        return typed(json.loads((folder / SHARD_FILE).read_text(encoding="utf-8")), ShardRecord)
    except (OSError, ValueError):
        return None


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Create the folder of a shard and hold its lock. UserError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"the shard {folder.name} of {folder.parent.name} is computed by another process: wait until it has "
                "ended, or use another results_dir"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def _run(cell: Cell, indexes: Sequence[int], children: Children, progress: Progress) -> list[ShardRecord]:
    results, count = Path(cell.config.results_dir), cell.config.shards
    with ExitStack() as locks:
        folders = {index: shard_folder(results, cell, index, count) for index in indexes}
        for folder in folders.values():
            locks.enter_context(only_process(folder))
        missing = [index for index in indexes if not is_done(folders[index])]
        bound = _bindings(cell)
        attempts = [_Attempts(cell, index, folders[index], bound[index]) for index in missing]
        children.wait_for_server(progress.on_message)
        told = _Told(progress, len(missing))
        jobs = [
            Job("shard", one.cell, one.folder, cell.config.time_limit_s, told.by(at), one.binding)
            for at, one in enumerate(attempts)
        ]
        for one in attempts:
            one.begin()
        children.run_together(
            jobs, lambda at, outcome: attempts[at].ended(outcome), lambda at, outcome: attempts[at].stopped(outcome)
        )
        records = {index: read_shard(folder) for index, folder in folders.items()}
    return [record for record in records.values() if record is not None]


def is_done(folder: Path) -> bool:
    """Return whether the shard of a folder is recorded as ok and its responses are still there."""
    record = read_shard(folder)
    return record is not None and record.status == "ok" and (folder / KEPT_FILE).exists()


def _bindings(cell: Cell) -> list[Binding]:
    """Return the binding of each shard of the cell on this machine. UserError for devices that there are not."""
    hw, count, cores = cell.config.hw, cell.config.shards, sorted(os.sched_getaffinity(0))
    threads = hw.threads or (max(1, len(cores) // count) if hw.devices is None else None)
    return bindings(count, hw.devices, hw.device, threads, cores)


class _Attempts:
    """The attempts to compute one shard, of this run and of earlier ones, which its journal has."""

    def __init__(self, cell: Cell, index: int, folder: Path, bound: Binding):
        self.cell, self.folder, self.binding = shard_cell(cell, index, bound.threads), folder, bound
        self._index, self._count, self._tries = index, cell.config.shards, cell.config.tries
        self._journal = Journal(folder / "journal.jsonl")
        self._failed = 0
        self._started = time.time()
        self._machine = environment()

    def begin(self) -> None:
        """Forget an earlier record, and note that an attempt begins."""
        (self.folder / SHARD_FILE).unlink(missing_ok=True)
        self._begin()

    def ended(self, outcome: Outcome) -> bool:
        """Note the end of an attempt; return whether another one begins, otherwise the shard's record is written."""
        self.stopped(outcome)
        self._failed += outcome.status in _REPEATED
        if outcome.status in _REPEATED and self._failed < self._tries:
            self._begin()
            return True
        self._write(outcome)
        return False

    def stopped(self, outcome: Outcome) -> None:
        """Note the end of an attempt, which a later run may continue."""
        events = self._events()
        cpu_s = events[-1]["cpu_s"] if events and events[-1]["event"] == "shard_end" else outcome.cpu_s
        wall_s = time.time() - self._started
        self._journal.write("attempt_ended", status=outcome.status, reason=outcome.reason, cpu_s=cpu_s, wall_s=wall_s)

    def _begin(self) -> None:
        self._started = time.time()
        self._journal.write("attempt", started_at=self._started, run=os.getpid(), host=self._machine.hostname)

    def _events(self) -> list[JsonObject]:
        return [event for event in read_journal(self.folder / "journal.jsonl") if event["event"] != "memory_trace"]

    def _write(self, outcome: Outcome) -> None:
        events = self._events()
        begun = [event for event in events if event["event"] == "attempt"]
        ended = [event for event in events if event["event"] == "attempt_ended"]
        times_s = [event["cpu_s"] for event in ended]
        loads = [event for event in events if event["event"] == "load"]
        this_run = (os.getpid(), self._machine.hostname)
        record = ShardRecord(
            index=self._index,
            count=self._count,
            status=outcome.status,
            reason=outcome.reason,
            items=_items(events),
            started_at=begun[0]["started_at"],
            finished_at=time.time(),
            wall_s=sum(event["wall_s"] for event in ended),
            cpu_s=None if None in times_s or len(ended) < len(begun) else sum(times_s),
            load_s=sum(loads[-1]["phases_s"].values()) if loads else None,
            tries=len(begun),
            is_continued=any((event["run"], event["host"]) != this_run for event in begun),
            host=self._machine.hostname,
            cores=_bound_cores(self.binding),
            threads=self.binding.threads,
            environment_hash=environment_hash(self._machine),
            machine=machine_kind(self._machine),
            device=loads[-1]["device"] if loads else None,
        )
        write_atomic(self.folder / SHARD_FILE, json.dumps(to_plain(record), indent=1, allow_nan=False) + "\n")


def _bound_cores(binding: Binding) -> list[int] | None:
    """Return the cores that a shard is bound to, by us or by a scheduler; None if it may use all."""
    if binding.cores is not None:
        return list(binding.cores)
    cores = sorted(os.sched_getaffinity(0))
    return cores if len(cores) < (os.cpu_count() or 0) else None


def _items(events: Sequence[JsonObject]) -> dict[str, int]:
    """Return the items of each benchmark that the shard has finished, over its grid points."""
    points = {
        (event["benchmark"], event.get("case", "")): event.get("items", 0)
        for event in events
        if event["event"] == "benchmark" and event["status"] == "ok"
    }
    items: dict[str, int] = {}
    for (benchmark, _), count in points.items():
        items[benchmark] = items.get(benchmark, 0) + count
    return items


class _Told:
    """Adds up the items that shards report, and tells the sum."""

    def __init__(self, progress: Progress, count: int):
        self._progress = progress
        self._done: dict[tuple[int, str], tuple[int, int]] = {}  # (done, total) by shard and benchmark
        self._running = [""] * count
        if count:
            progress.on_message(("benchmark", f"{count} shards" if count > 1 else "1 shard"))

    def by(self, shard: int) -> Callable[[Any], None]:
        """Return what takes the messages of a shard."""
        return lambda message: self._take(shard, message)

    def _take(self, shard: int, message: Any) -> None:
        if message is not None and message[0] == "benchmark":
            self._running[shard] = message[1]
        elif message is not None and message[0] == "items":
            self._done[shard, self._running[shard]] = (message[1], message[2])
            done, total = (sum(part) for part in zip(*self._done.values(), strict=True))
            self._progress.on_message(("items", done, total))
            return
        self._progress.on_message(None)
