"""Speed of several cells, interleaved: alive together, one computing at a time, in launches of fresh processes.

The launch is the unit of replication (Kalibera and Jones 2013): more rounds in the same processes narrow an interval
around a number that another launch would not repeat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.comparison.launch import Launch, computes_the_same, launch
from runtime_matrix.experiments.comparison.workers import Runner, Tick
from runtime_matrix.experiments.config import ComparisonConfig
from runtime_matrix.experiments.measurement.memory import available_bytes
from runtime_matrix.experiments.progress import Deadline
from runtime_matrix.experiments.records.environment import gpu_memory_bytes, gpus
from runtime_matrix.experiments.records.speed import Clock, ratio
from runtime_matrix.experiments.records.store import SPEED_FILE, SPEED_SCHEMA_VERSION, write_atomic
from runtime_matrix.experiments.records.timed_work import problem

_FORKED_FROM = 3  # candidates
_NARROWEST_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess

Launches = list[dict[str, Any]]
OnLaunch = Callable[[int, Launches], None]  # launches done, the stored launches of the first candidate
Enough = Callable[[dict[Path, Launches]], bool]  # by the folder of a candidate's record: are these all that is wanted?


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
    """Run launches and write `speed.json` beside each record after each; return why some candidates have none.

    Without `enough`, as many launches as the options say: a width is of the ratio by `clock`. Cells that do not fit
    into memory together are paired with the reference one by one. `fork`: see `workers.started`.
    """
    if _fit_together([reference, *candidates]):
        groups = [list(candidates)]
    else:
        groups = [[candidate] for candidate in candidates]
    reasons: dict[Path, str | None] = {}
    for group in groups:
        # One import serves all then; two cells are as soon there when each imports for itself.
        comparison = _Comparison(reference, group, options, fork and len(group) >= _FORKED_FROM)
        reasons |= comparison.run(on_launch, enough or _narrow_enough(options, clock), deadline, tick)
    return reasons


class _Comparison:
    """A reference and its candidates, alive together."""

    def __init__(self, reference: Runner, candidates: Sequence[Runner], options: ComparisonConfig, fork: bool):
        self._reference, self._options, self._fork = reference, options, fork
        self._alive = list(candidates)
        self._stored: dict[Path, Launches] = {runner.folder: [] for runner in candidates}
        self._reasons: dict[Path, str | None] = {runner.folder: None for runner in candidates}
        self._own: Launches = []  # the reference's side of each launch

    def run(self, on_launch: OnLaunch, enough: Enough, deadline: Deadline | None, tick: Tick) -> dict[Path, str | None]:
        for number in range(self._options.launches or self._options.most_launches):
            if deadline is not None and deadline.is_over():
                break
            done = launch([self._reference, *self._alive], self._options, tick, self._fork)
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

    def _keep(self, done: Launch) -> None:
        self._own.append(done.stored(0))
        self._write(self._reference, self._own, None)
        for index, runner in enumerate(list(self._alive), start=1):
            if index in done.failures:
                self._drop(runner, done.failures[index])
                continue
            self._stored[runner.folder].append(done.stored(index))
            self._write(runner, self._stored[runner.folder], None)
            wrong = problem(self._content(runner, self._stored[runner.folder], None), self._agreement(runner))
            if wrong is not None and wrong.is_final:
                self._drop(runner, f"{wrong.status}: {wrong.reason}")

    def _drop(self, runner: Runner, reason: str) -> None:
        self._reasons[runner.folder] = reason
        self._alive.remove(runner)
        self._write(runner, self._stored[runner.folder], reason)

    def _write(self, runner: Runner, launches: Launches, reason: str | None) -> None:
        text = json.dumps(self._content(runner, launches, reason), allow_nan=False)
        write_atomic(runner.folder / SPEED_FILE, text + "\n")

    def _content(self, runner: Runner, launches: Launches, reason: str | None) -> dict[str, Any]:
        return speed_content(self._reference, runner, self._options, launches, self._fork, reason)

    def _agreement(self, runner: Runner) -> dict[str, Any]:
        record = json.loads((runner.folder / "record.json").read_text(encoding="utf-8"))
        entries = [entry for entry in record["benchmarks"] if entry["benchmark"] == "agreement"]
        return entries[0]["figures"] if entries else {}


def speed_content(
    reference: Runner,
    runner: Runner,
    options: ComparisonConfig,
    launches: Launches,
    fork: bool,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return what `speed.json` holds of a cell; `reason`: why there are not more launches."""
    return {
        "schema_version": SPEED_SCHEMA_VERSION,
        "against": reference.folder.name,
        "options": asdict(options),
        "threads": runner.cell.threads,
        "token_rule": "exact" if computes_the_same(runner, reference) else "share",
        "interleaved": "alive together, one computing at a time, fresh processes for each launch",
        "launch": "fork" if fork else "exec",
        "launches": launches,
        "reason": reason,
    }


def _narrow_enough(options: ComparisonConfig, clock: Clock) -> Enough:
    return lambda stored: (
        not options.launches and all(_is_narrow(launches, options, clock) for launches in stored.values())
    )


def _is_narrow(launches: Launches, options: ComparisonConfig, clock: Clock) -> bool:
    if len(launches) < _NARROWEST_LAUNCHES:
        return False
    intervals = [ratio(launches, phase, clock) for phase in ("decode", "prefill")]
    return all(one is not None and one.high / one.low - 1 <= options.width for one in intervals)


def _fit_together(runners: Sequence[Runner]) -> bool:
    """Say whether the cells' peaks, as measured while each was alone, fit into what the machine has."""
    host, device = (sum(_peak(runner, kind) for runner in runners) for kind in ("host", "device"))
    available = available_bytes()
    sizes = [size for gpu in gpus() if (size := gpu_memory_bytes(gpu)) is not None]
    fits_host = available is None or host < 0.7 * available
    return fits_host and (not sizes or device < 0.8 * min(sizes))


def _peak(runner: Runner, kind: str) -> int:
    record: Mapping[str, Any] = json.loads((runner.folder / "record.json").read_text(encoding="utf-8"))
    peaks = [(record["load"] or {}).get(f"peak_{kind}_bytes") or 0]
    peaks += [entry["figures"].get(f"peak_{kind}_bytes") or 0 for entry in record["benchmarks"]]
    return max(peaks)
