"""Compare the speed of several cells, interleaved: in each launch, fresh processes are alive together and take turns.

The launch is the unit of replication (Kalibera and Jones 2013): more rounds in the same processes narrow the interval
around a value that another launch would not reproduce.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.audit import audit, problem
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
_NARROWEST_LAUNCHES = 4  # with fewer, the variance is too uncertain for an interval

OnLaunch = Callable[[int, Sequence[Launch]], None]  # number of launches, stored launches of the first candidate
# From the stored launches by the folder of the candidate's record: whether they suffice.
Enough = Callable[[Mapping[Path, Sequence[Launch]]], bool]


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
) -> dict[Path, str | None]:
    """Run launches, write `speed.json` beside each record after each launch, and return the reason of each failure.

    The result maps each candidate's folder to the reason, or None. Without `enough`, the options set the number of
    launches or the width of the interval, which is of the ratio by `clock`. Cells that do not fit into memory together
    are compared with the reference one by one. `fork`: see `runner.started`.
    """
    if _fit_together([reference, *candidates]):
        groups = [list(candidates)]
    else:
        groups = [[candidate] for candidate in candidates]
    reasons: dict[Path, str | None] = {}
    for group in groups:
        # A fork server imports torch once for all cells, which is not faster for only two cells.
        fork_group = fork and len(group) >= _FORKED_FROM
        comparison = _Comparison(reference, group, options, fork_group)
        reasons |= comparison.run(on_launch, enough or _narrow_enough(options, clock), deadline, tick)
    return reasons


class _Comparison:
    """The launches of a reference and its candidates."""

    def __init__(self, reference: Runner, candidates: Sequence[Runner], options: ComparisonConfig, fork: bool):
        self._reference, self._options, self._fork = reference, options, fork
        self._alive = list(candidates)
        self._stored: dict[Path, list[Launch]] = {runner.folder: [] for runner in candidates}
        self._reasons: dict[Path, str | None] = {runner.folder: None for runner in candidates}
        self._reference_launches: list[Launch] = []

    def run(self, on_launch: OnLaunch, enough: Enough, deadline: Deadline | None, tick: Tick) -> dict[Path, str | None]:
        for number in range(self._options.launches or self._options.most_launches):
            if deadline is not None and deadline.is_over():
                break
            result = launch([self._reference, *self._alive], self._options, tick, self._fork)
            if 0 in result.failures:
                for runner in list(self._alive):
                    self._drop(runner, f"the reference: {result.failures[0]}")
                break
            self._store(result)
            if not self._alive:
                break
            on_launch(number + 1, self._stored[self._alive[0].folder])
            if enough({runner.folder: self._stored[runner.folder] for runner in self._alive}):
                break
        return self._reasons

    def _store(self, result: RunningLaunch) -> None:
        self._reference_launches.append(result.stored(0))
        self._write(self._reference, self._reference_launches, None)
        for index, runner in enumerate(list(self._alive), start=1):
            if index in result.failures:
                self._drop(runner, result.failures[index])
                continue
            self._stored[runner.folder].append(result.stored(index))
            self._write(runner, self._stored[runner.folder], None)
            speed = self._speed(runner, self._stored[runner.folder], None)
            timed_problem = problem(audit(_record(runner), speed))
            if timed_problem is not None:
                self._drop(runner, f"{timed_problem.status}: {timed_problem.reason}")

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
    """Return the content of a cell's `speed.json`; `reason`: why there are no more launches."""
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
    """Return whether the memory peaks of the cells, measured alone, fit into the available memory together."""
    peaks = [_peaks(_record(runner)) for runner in runners]
    host, device = sum(host for host, _ in peaks), sum(device for _, device in peaks)
    available = available_bytes()
    sizes = [size for gpu in gpus() if (size := gpu_memory_bytes(gpu)) is not None]
    fits_host = available is None or host < 0.7 * available
    return fits_host and (not sizes or device < 0.8 * min(sizes))


def _peaks(record: Record) -> tuple[float, float]:
    """Return the highest peaks of host and device memory in bytes; 0 if none was measured."""
    load, entries = record.load, record.benchmarks
    host = [load.peak_host_bytes if load else None, *(entry.figure("peak_host_bytes") for entry in entries)]
    device = [load.peak_device_bytes if load else None, *(entry.figure("peak_device_bytes") for entry in entries)]
    return max(peak or 0 for peak in host), max(peak or 0 for peak in device)


def _record(runner: Runner) -> Record:
    return read_record(json.loads((runner.folder / "record.json").read_text(encoding="utf-8")))
