"""Runs of our command with shards, whole and interrupted, and what each took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.validation import whole_cpu

_ROOT = Path(__file__).parents[2]
_HOUR_S = 3600
_LIMIT_S = 600.0  # for one command
_TICK_S = 0.05


@dataclass(frozen=True)
class Run:
    """A finished run."""

    items_per_hour: float | None  # from the start of the first shard to the merged record; None if interrupted
    shards_s: float | None
    merge_s: float | None
    cpu_s: float  # of all processes of all its commands
    wall_s: float  # of all its commands


class ShardRuns:
    """Runs of one cell with different numbers of shards, each in a results folder of its own."""

    def __init__(self, folder: Path, words: Sequence[str]):
        self._folder, self._words = folder, words
        self._count = 0

    def whole(self, shards: int, threads: int) -> Run:
        """Run the cell with so many shards of so many threads each."""
        place = self._place()
        start = time.monotonic()
        cpu_s = self._start(place, shards, threads).finish()
        return _run(place, cpu_s, time.monotonic() - start)

    def with_a_killed_shard(self, shards: int, threads: int, after_s: float) -> Run:
        """Run the cell; its last shard gets SIGKILL so long after it was begun, and is tried again."""
        place, start = self._place(), time.monotonic()
        command = self._start(place, shards, threads)
        self._wait(command, place, shards, after_s)
        os.kill(process_of(_shard(place, shards)), signal.SIGKILL)
        return _run(place, command.finish(), time.monotonic() - start)

    def stopped_and_resumed(self, shards: int, threads: int, after_s: float) -> Run:
        """Run the cell; the command gets SIGTERM so long after its shards were begun, and runs again to the end."""
        place, start = self._place(), time.monotonic()
        command = self._start(place, shards, threads)
        self._wait(command, place, shards, after_s)
        os.kill(command.process, signal.SIGTERM)
        cpu_s = command.finish(128 + signal.SIGTERM)
        cpu_s += self._start(place, shards, threads, "resume=true").finish()
        return _run(place, cpu_s, time.monotonic() - start)

    def _place(self) -> Path:
        self._count += 1
        return self._folder / str(self._count)

    def _start(self, place: Path, shards: int, threads: int, *words: str) -> _Command:
        own = [f"results_dir={place}", f"artifacts_dir={self._folder / 'artifacts'}", f"shards={shards}"]
        own += [f"hw.threads={threads}", f"sandbox.workers={threads}", "monitoring=[]", "progress=false"]
        return _Command([*self._words, *own, *words], self._folder / f"{place.name}.log")

    def _wait(self, command: _Command, place: Path, shards: int, after_s: float) -> None:
        """Wait until the last shard was begun, and then so long."""

        def has_begun() -> bool:
            folders = list(place.glob(f"shards/*/{shards - 1}-of-{shards}"))
            return bool(folders) and any(_is_attempt(event) for event in read_journal(folders[0] / "journal.jsonl"))

        command.wait_until(has_begun)
        time.sleep(after_s)


class _Command:
    """Our command, started, with the CPU time of all its processes."""

    def __init__(self, words: Sequence[str], log: Path):
        command = [sys.executable, "-m", "runtime_matrix.experiments.run", *words]
        self._log = log
        with log.open("ab") as output:
            self._counting = subprocess.Popen(
                [sys.executable, "-S", whole_cpu.__file__, *command],
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        self.process = int(self._line()["process"])

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait for a condition. RuntimeError if the command ends before."""
        deadline = time.monotonic() + _LIMIT_S
        while not is_true():
            if self._counting.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the command ended too early; see {self._log}")
            time.sleep(_TICK_S)

    def finish(self, expected: int = 0) -> float:
        """Wait for the end of all its processes and return their CPU seconds. RuntimeError for another exit code."""
        end = self._line()
        self._counting.wait()
        if end["exit_code"] != expected:
            raise RuntimeError(f"the command ended with exit code {end['exit_code']}; see {self._log}")
        return float(end["cpu_s"])

    def _line(self) -> JsonObject:
        assert self._counting.stdout is not None
        line: JsonObject = json.loads(self._counting.stdout.readline())
        return line


def process_of(folder: Path) -> int:
    """Return the process of a shard: the leader of a session that has its log open. LookupError if there is none."""
    log = str((folder / "output.log").resolve())
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):  # it has ended, or is another user's
            files = [os.readlink(path) for path in Path(f"/proc/{number}/fd").iterdir()]
            if log in files and os.getsid(number) == number:
                return number
    raise LookupError(f"no process writes {log}")


def _shard(place: Path, shards: int) -> Path:
    """Return the folder of the last shard."""
    (folder,) = place.glob(f"shards/*/{shards - 1}-of-{shards}")
    return folder


def _is_attempt(event: JsonObject) -> bool:
    return bool(event["event"] == "attempt")


def _run(place: Path, cpu_s: float, wall_s: float) -> Run:
    """Return what the newest record of a results folder says."""
    newest = max(place.glob("*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    record = read_record(json.loads(newest.read_text(encoding="utf-8")))
    if record.status != "ok":
        raise RuntimeError(f"{newest}: {record.status}: {record.reason}")
    sharding = record.shards
    if sharding is None:
        return Run(_items(newest.parent) * _HOUR_S / _measured_s(record), None, None, cpu_s, wall_s)
    return Run(sharding.items_per_hour, sharding.shards_s, sharding.merge_s, cpu_s, wall_s)


def _items(folder: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("items-*.jsonl"))


def _measured_s(record: Record) -> float:
    return record.jobs["measure"]
