"""Speed of several cells, interleaved: alive together, one computing at a time, in launches of fresh processes.

The launch is the unit of replication (Kalibera and Jones 2013): more rounds in the same processes narrow an interval
around a number that another launch would not repeat.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.cells import pace
from experiments.cells.plan import Cell
from experiments.cells.supervise import end_process
from experiments.config import ComparisonConfig
from experiments.measurement.memory import available_bytes
from experiments.progress import Deadline
from experiments.records.environment import gpus
from experiments.records.speed import ratio
from experiments.records.store import SPEED_FILE, write_atomic

_FEWEST_ROUNDS = 10
_NARROWEST_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess


@dataclass(frozen=True)
class Runner:
    """A cell that is compared; `slowed_by` adds a known slowdown, to test the comparison itself."""

    cell: Cell
    folder: Path  # its record's
    slowed_by: float = 0.0


Launches = list[dict[str, Any]]
OnLaunch = Callable[[int, Launches], None]  # launches done, the stored launches of the first candidate
Enough = Callable[[dict[Path, Launches]], bool]  # by the folder of a candidate's record: are these all that is wanted?


def compare_speed(
    reference: Runner,
    candidates: Sequence[Runner],
    options: ComparisonConfig,
    seed: int,
    on_launch: OnLaunch = lambda done, launches: None,
    enough: Enough | None = None,
    deadline: Deadline | None = None,
) -> dict[Path, str | None]:
    """Run launches and write `speed.json` beside each candidate's record after each; return why some have none.

    Without `enough`, as many launches as the options say. Cells that do not fit into memory together are paired with
    the reference one by one.
    """
    if _fit_together([reference, *candidates]):
        groups = [list(candidates)]
    else:
        groups = [[candidate] for candidate in candidates]
    reasons: dict[Path, str | None] = {}
    for group in groups:
        reasons |= _compare_group(
            reference, group, options, seed, on_launch, enough or _narrow_enough(options), deadline
        )
    return reasons


def _compare_group(
    reference: Runner,
    group: Sequence[Runner],
    options: ComparisonConfig,
    seed: int,
    on_launch: OnLaunch,
    enough: Enough,
    deadline: Deadline | None,
) -> dict[Path, str | None]:
    order = random.Random(seed)
    stored: dict[Path, Launches] = {runner.folder: [] for runner in group}
    reasons: dict[Path, str | None] = {runner.folder: None for runner in group}
    alive = list(group)
    most = options.launches or options.most_launches
    for number in range(most):
        if deadline is not None and deadline.is_over():
            break
        found = launch([reference, *alive], options, order)
        if found.failures.get(0):
            why = f"the reference: {found.failures[0]}"
            for runner in alive:
                _write(runner, reference, stored[runner.folder], options, why)
            return reasons | {runner.folder: why for runner in alive}
        for index, runner in enumerate(alive, start=1):
            if index in found.failures:
                reasons[runner.folder] = found.failures[index]
                _write(runner, reference, stored[runner.folder], options, found.failures[index])
                continue
            stored[runner.folder].append(
                {
                    "candidate": found.rounds[index],
                    "reference": found.rounds[0],
                    "candidate_memory": found.memory[index],
                    "reference_memory": found.memory[0],
                    "load_1min": found.load_1min,
                }
            )
            _write(runner, reference, stored[runner.folder], options)
        alive = [runner for runner in alive if reasons[runner.folder] is None]
        if not alive:
            break
        on_launch(number + 1, stored[alive[0].folder])
        if enough({runner.folder: stored[runner.folder] for runner in alive}):
            break
    return reasons


@dataclass(frozen=True)
class Launch:
    """What one set of fresh processes gave: by cell its rounds, phase -> clock -> seconds; or why it gave none."""

    rounds: dict[int, dict[str, dict[str, list[float]]]]
    memory: dict[int, dict[str, int | None]]  # by cell: peaks after loading and warming up, the interpreter's included
    failures: dict[int, str]
    load_1min: float


def launch(runners: Sequence[Runner], options: ComparisonConfig, order: random.Random) -> Launch:
    """Start the cells together, let them load and warm up, then give each its turns."""
    rounds: dict[int, dict[str, dict[str, list[float]]]] = {}
    failures: dict[int, str] = {}
    memory: dict[int, dict[str, int | None]] = {}
    with _started(runners, options, _shared_cores(options.threads, order)) as racers:
        for index, racer in enumerate(racers):
            told = racer.hear("ready", racer.limit_s)
            if isinstance(told, str):
                failures[index] = told
            else:
                memory[index] = told
        enough_s = time.monotonic() + options.seconds * len(runners)
        for number in range(options.rounds):
            if number >= _FEWEST_ROUNDS and time.monotonic() > enough_s:
                break
            turns = [index for index in range(len(racers)) if index not in failures]
            if len(turns) == 2:
                turns = turns if number % 2 == 0 else turns[::-1]
            else:
                order.shuffle(turns)
            for index in turns:
                taken = racers[index].run_round()
                if isinstance(taken, str):
                    failures[index] = taken
                    continue
                for phase, clocks in taken.items():
                    for clock, seconds in clocks.items():
                        rounds.setdefault(index, {}).setdefault(phase, {}).setdefault(clock, []).append(seconds)
    return Launch(rounds, memory, failures, os.getloadavg()[0])


class _Racer:
    """One process of a launch, as its parent sees it. Its time limit counts its own turns."""

    def __init__(self, process: Any, wire: Connection, limit_s: float):
        self._process, self._wire, self.limit_s = process, wire, limit_s

    def run_round(self) -> dict[str, dict[str, float]] | str:
        """Return the seconds of a round, or why there are none."""
        start = time.monotonic()
        try:
            self._wire.send("go")
        except OSError:
            return self._ended()
        taken = self.hear("round", self.limit_s)
        self.limit_s -= time.monotonic() - start
        return taken

    def hear(self, wanted: str, limit_s: float) -> Any:
        """Return what comes with the wanted message, or a reason (a str) why it does not come."""
        if not wait([self._wire, self._process.sentinel], timeout=max(0.0, limit_s)):
            return "timeout: longer than time_limit_s"
        try:
            message = self._wire.recv()
        except (EOFError, OSError):
            return self._ended()
        if message[0] == "failed":
            return f"{message[1]}: {message[2]}"
        assert message[0] == wanted, message
        return message[1]

    def _ended(self) -> str:
        self._process.join(1.0)
        return f"crash: ended with exit code {self._process.exitcode} while it was compared"


@contextmanager
def _started(runners: Sequence[Runner], options: ComparisonConfig, cores: tuple[int, ...]) -> Iterator[list[_Racer]]:
    # exec, not fork: forked children share the parent's memory layout, and their intervals would be falsely narrow.
    context = multiprocessing.get_context("spawn")
    processes = []
    racers = []
    try:
        for runner in runners:
            shape = pace.Shape(
                options.batch,
                options.prompt_tokens,
                options.new_tokens,
                options.warmup,
                options.threads,
                cores,
                runner.slowed_by,
            )
            mine, theirs = context.Pipe()
            process = context.Process(target=pace.main, args=(runner.cell, shape, runner.folder / "speed.log", theirs))
            process.start()
            theirs.close()
            processes.append(process)
            racers.append(_Racer(process, mine, runner.cell.config.time_limit_s))
        yield racers
    finally:
        for process in processes:
            end_process(process)


def _write(
    runner: Runner, reference: Runner, launches: Launches, options: ComparisonConfig, reason: str | None = None
) -> None:
    content = {
        "schema_version": 1,
        "against": reference.folder.name,
        "options": asdict(options),
        "interleaved": "alive together, one computing at a time, fresh processes a launch",
        "launches": launches,
        "reason": reason,  # why there are not more
    }
    write_atomic(runner.folder / SPEED_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _shared_cores(threads: int, order: random.Random) -> tuple[int, ...]:
    """Return as many cores as threads, other ones each launch: what a core adds must not become a constant."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(order.sample(cores, min(threads, len(cores))))


def _narrow_enough(options: ComparisonConfig) -> Enough:
    return lambda stored: not options.launches and all(_is_narrow(launches, options) for launches in stored.values())


def _is_narrow(launches: Launches, options: ComparisonConfig) -> bool:
    if len(launches) < _NARROWEST_LAUNCHES:
        return False
    intervals = [ratio(launches, phase) for phase in ("decode", "prefill")]
    return all(one is not None and one.high / one.low - 1 <= options.width for one in intervals)


def _fit_together(runners: Sequence[Runner]) -> bool:
    """Say whether the cells' peaks, as measured while each was alone, fit into what the machine has."""
    host, device = (sum(_peak(runner, kind) for runner in runners) for kind in ("host", "device"))
    available = available_bytes()
    on_device = [float(gpu["memory.total"].split()[0]) * 2**20 for gpu in gpus()]  # in MiB
    fits_host = available is None or host < 0.7 * available
    return fits_host and (not on_device or device < 0.8 * on_device[0])


def _peak(runner: Runner, kind: str) -> int:
    record = json.loads((runner.folder / "record.json").read_text())
    peaks = [(record["load"] or {}).get(f"peak_{kind}_bytes") or 0]
    peaks += [entry["figures"].get(f"peak_{kind}_bytes") or 0 for entry in record["benchmarks"]]
    return max(peaks)
