"""Speed of several cells, interleaved: alive together, one computing at a time, in launches of fresh processes.

The launch is the unit of replication (Kalibera and Jones 2013): more rounds in the same processes narrow an interval
around a number that another launch would not repeat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from runtime_matrix.experiments.analysis.timed_work import problem
from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.measurement.memory import available_bytes
from runtime_matrix.experiments.records.comparison import SPEED_SCHEMA_VERSION, Launch, Speed
from runtime_matrix.experiments.records.environment import gpu_memory_bytes, gpus
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.schema import Record, to_plain
from runtime_matrix.experiments.records.store import SPEED_FILE, write_atomic
from runtime_matrix.experiments.timing.launch import RunningLaunch, computes_the_same, launch
from runtime_matrix.experiments.timing.runner import Runner, Tick

_FORKED_FROM = 3  # candidates
_NARROWEST_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess

OnLaunch = Callable[[int, Sequence[Launch]], None]  # launches done, the stored launches of the first candidate
# By the folder of a candidate's record: are these launches all that is wanted?
Enough = Callable[[Mapping[Path, Sequence[Launch]]], bool]


class Launcher(Protocol):
    """Starts cells together and times them in turns: `launch.launch`, or one whose times are given."""

    def __call__(
        self, runners: Sequence[Runner], options: ComparisonConfig, tick: Tick = ..., fork: bool = ...
    ) -> RunningLaunch: ...


def compare_speed(
    reference: Runner,
    candidates: Sequence[Runner],
    options: ComparisonConfig,
    clock: Clock,
    on_launch: OnLaunch = lambda done, launches: None,
    enough: Enough | None = None,
    deadline: Deadline | None = None,
    tick: Tick = lambda: None,
    fork: bool = False,
    launcher: Launcher | None = None,
) -> dict[Path, str | None]:
    """Run launches and write `speed.json` beside each record after each; return why some candidates have none.

    Without `enough`, as many launches as the options say: a width is of the ratio by `clock`. Cells that do not fit
    into memory together are paired with the reference one by one. `fork`: see `runner.started`. `launcher` measures a
    launch: real processes, unless another is given.
    """
    if _fit_together([reference, *candidates]):
        groups = [list(candidates)]
    else:
        groups = [[candidate] for candidate in candidates]
    reasons: dict[Path, str | None] = {}
    for group in groups:
        # One import serves all then; two cells are as soon there when each imports for itself.
        fork_group = fork and len(group) >= _FORKED_FROM
        comparison = _Comparison(reference, group, options, fork_group, launcher or launch)
        reasons |= comparison.run(on_launch, enough or _narrow_enough(options, clock), deadline, tick)
    return reasons


class _Comparison:
    """A reference and its candidates, alive together."""

    def __init__(
        self,
        reference: Runner,
        candidates: Sequence[Runner],
        options: ComparisonConfig,
        fork: bool,
        launcher: Launcher,
    ):
        self._reference, self._options, self._fork, self._launcher = reference, options, fork, launcher
        self._alive = list(candidates)
        self._stored: dict[Path, list[Launch]] = {runner.folder: [] for runner in candidates}
        self._reasons: dict[Path, str | None] = {runner.folder: None for runner in candidates}
        self._own: list[Launch] = []  # the reference's side of each launch

    def run(self, on_launch: OnLaunch, enough: Enough, deadline: Deadline | None, tick: Tick) -> dict[Path, str | None]:
        for number in range(self._options.launches or self._options.most_launches):
            if deadline is not None and deadline.is_over():
                break
            done = self._launcher([self._reference, *self._alive], self._options, tick, self._fork)
            if 0 in done.failures:
                for runner in list(self._alive):
                    self._drop(runner, f"the reference: {done.failures[0]}")
                break
            self._keep(done)
            if not self._alive:
                break
            on_launch(number + 1, self._stored[self._alive[0].folder])
            if enough({runner.folder: self._stored[runner.folder] for runner in self._alive}):
                break
        return self._reasons

    def _keep(self, done: RunningLaunch) -> None:
        self._own.append(done.stored(0))
        self._write(self._reference, self._own, None)
        for index, runner in enumerate(list(self._alive), start=1):
            if index in done.failures:
                self._drop(runner, done.failures[index])
                continue
            self._stored[runner.folder].append(done.stored(index))
            self._write(runner, self._stored[runner.folder], None)
            speed = self._speed(runner, self._stored[runner.folder], None)
            wrong = problem(speed, _record(runner).agreement_figures())
            if wrong is not None and wrong.is_final:
                self._drop(runner, f"{wrong.status}: {wrong.reason}")

    def _drop(self, runner: Runner, reason: str) -> None:
        self._reasons[runner.folder] = reason
        self._alive.remove(runner)
        self._write(runner, self._stored[runner.folder], reason)

    def _write(self, runner: Runner, launches: Sequence[Launch], reason: str | None) -> None:
        text = json.dumps(to_plain(self._speed(runner, launches, reason)), allow_nan=False)
        write_atomic(runner.folder / SPEED_FILE, text + "\n")

    def _speed(self, runner: Runner, launches: Sequence[Launch], reason: str | None) -> Speed:
        return speed_content(self._reference, runner, self._options, launches, self._fork, reason)


def speed_content(
    reference: Runner,
    runner: Runner,
    options: ComparisonConfig,
    launches: Sequence[Launch],
    fork: bool,
    reason: str | None = None,
) -> Speed:
    """Return what `speed.json` holds of a cell; `reason`: why there are not more launches."""
    return Speed(
        schema_version=SPEED_SCHEMA_VERSION,
        against=reference.folder.name,
        options=plain(options),
        threads=runner.cell.threads,
        token_rule="exact" if computes_the_same(runner, reference) else "share",
        interleaved="alive together, one computing at a time, fresh processes for each launch",
        launch="fork" if fork else "exec",
        launches=list(launches),
        reason=reason,
    )


def _narrow_enough(options: ComparisonConfig, clock: Clock) -> Enough:
    return lambda stored: (
        not options.launches and all(_is_narrow(launches, options, clock) for launches in stored.values())
    )


def _is_narrow(launches: Sequence[Launch], options: ComparisonConfig, clock: Clock) -> bool:
    if len(launches) < _NARROWEST_LAUNCHES:
        return False
    intervals = [ratio(launches, phase, clock) for phase in ("decode", "prefill")]
    return all(interval is not None and interval.high / interval.low - 1 <= options.ci_width for interval in intervals)


def _fit_together(runners: Sequence[Runner]) -> bool:
    """Say whether the cells' peaks, as measured while each was alone, fit into what the machine has."""
    peaks = [_peaks(_record(runner)) for runner in runners]
    host, device = sum(host for host, _ in peaks), sum(device for _, device in peaks)
    available = available_bytes()
    sizes = [size for gpu in gpus() if (size := gpu_memory_bytes(gpu)) is not None]
    fits_host = available is None or host < 0.7 * available
    return fits_host and (not sizes or device < 0.8 * min(sizes))


def _peaks(record: Record) -> tuple[float, float]:
    """Return the highest peaks of the host's memory and of the device's; 0 where nobody measured one."""
    load, entries = record.load, record.benchmarks
    host = [load.peak_host_bytes if load else None, *(entry.figure("peak_host_bytes") for entry in entries)]
    device = [load.peak_device_bytes if load else None, *(entry.figure("peak_device_bytes") for entry in entries)]
    return max(peak or 0 for peak in host), max(peak or 0 for peak in device)


def _record(runner: Runner) -> Record:
    return read_record(json.loads((runner.folder / "record.json").read_text(encoding="utf-8")))
