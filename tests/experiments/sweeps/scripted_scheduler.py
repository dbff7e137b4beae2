"""A scheduler and work that are scripted: no process runs, and time passes only while the driver waits."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.launchers.launcher import JobState, Scheduler, Unit, Unreachable
from runtime_matrix.experiments.sweeps.driver import Driver, Ending


@dataclass
class Script:
    """What happens to a job: it ends in `state` after `lasts_s`, and its outcome is written after `writes_at_s`.

    None: no outcome. It may be written after the job was reported as ended or lost.
    """

    lasts_s: float = 1.0
    state: JobState = field(default_factory=lambda: JobState("ended", "crash", "it left nothing"))
    writes_at_s: float | None = 1.0
    outcome: Ending = field(default_factory=lambda: Ending("ok"))


class ScriptedClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class ScriptedWork:
    """Keeps outcomes in memory, each once, and counts what the driver asks for."""

    def __init__(self, clock: ScriptedClock) -> None:
        self._clock = clock
        self.pending: dict[str, list[tuple[float, Ending]]] = {}  # outcomes to be written, by unit
        self.started: set[str] = set()
        self.outcomes: dict[str, Ending] = {}
        self.taken: dict[str, Ending] = {}
        self.losses: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.nothing_to_do: set[str] = set()
        self.order: list[str] = []

    def prepare(self, unit: Unit) -> bool:
        self.calls["prepare"] += 1
        missing = [name for name in unit.needs if name not in self.taken and name not in self.nothing_to_do]
        assert not missing, f"{unit.name} before {missing}"
        return unit.name not in self.nothing_to_do

    def submitted(self, unit: Unit, job: str) -> None:
        self.calls["submitted"] += 1

    def has_started(self, unit: Unit) -> bool:
        return unit.name in self.started

    def outcome(self, unit: Unit) -> Ending | None:
        self.calls["outcome"] += 1
        for at, ending in sorted(self.pending.get(unit.name, ()), key=lambda pair: pair[0]):
            if at <= self._clock():
                self.outcomes.setdefault(unit.name, ending)
        return self.outcomes.get(unit.name)

    def fail(self, unit: Unit, state: JobState) -> Ending:
        return self.outcomes.setdefault(unit.name, Ending(state.status, state.reason))

    def lost(self, unit: Unit, reason: str) -> None:
        self.losses[unit.name] += 1

    def ended(self, unit: Unit, ending: Ending) -> None:
        assert unit.name not in self.taken, f"{unit.name} was counted twice"
        assert self.outcomes[unit.name] is ending
        self.taken[unit.name] = ending
        self.order.append(unit.name)


class ScriptedScheduler(Scheduler):
    """Runs at most `nodes` jobs at a time. `scripts` are those of each unit's tries, `silences` are silent times."""

    poll_s = 1.0
    patience_s = 100.0
    settle_s = 2.0

    def __init__(
        self,
        clock: ScriptedClock,
        work: ScriptedWork,
        scripts: Mapping[str, Sequence[Script]],
        nodes: int = 64,
        drawn: random.Random | None = None,
    ):
        self.clock, self.work, self.nodes, self.drawn = clock, work, nodes, drawn
        self.scripts = {name: deque(tries) for name, tries in scripts.items()}
        self.queue: deque[str] = deque()
        self.jobs: dict[str, tuple[Unit, Script]] = {}
        self.running: set[str] = set()
        self.ends_at: dict[str, float] = {}
        self.cancelled: set[str] = set()
        self.silences: list[tuple[float, float]] = []
        self.submissions = 0

    def _answer(self) -> None:
        is_silent = any(start <= self.clock() < end for start, end in self.silences)
        if is_silent or (self.drawn is not None and self.drawn.random() < 0.05):
            raise Unreachable("it is silent")

    def _advance(self) -> None:
        now = self.clock()
        self.running = {job for job in self.running if self.ends_at[job] > now and job not in self.cancelled}
        while self.queue and len(self.running) < self.nodes:
            job = self.queue.popleft()
            unit, script = self.jobs[job]
            self.ends_at[job] = self.clock() + script.lasts_s
            self.work.started.add(unit.name)
            if script.writes_at_s is not None:
                written = (self.clock() + script.writes_at_s, script.outcome)
                self.work.pending.setdefault(unit.name, []).append(written)
            self.running.add(job)

    @override
    def submit(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, str]]:
        for unit in units:
            self._answer()
            self.submissions += 1
            job = f"job-{self.submissions}"
            tries = self.scripts.get(unit.name)
            self.jobs[job] = (unit, tries.popleft() if tries else Script())
            self.queue.append(job)
            yield unit, job

    @override
    def poll(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        self._answer()
        self._advance()
        return {job: self._state(job) for job in jobs}

    def _state(self, job: str) -> JobState:
        if job in self.cancelled:
            return JobState("ended", "interrupted", f"{job} was cancelled")
        if job not in self.jobs:
            return JobState("lost", reason=f"{job} is unknown")
        if job not in self.ends_at:
            return JobState("waiting", reason="Resources")
        return self.jobs[job][1].state if self.ends_at[job] <= self.clock() else JobState("running", node="n1")

    @override
    def cancel(self, jobs: Sequence[str], only_waiting: bool = False) -> None:
        self._answer()
        for job in jobs:
            if job in self.queue or not only_waiting:
                self.cancelled.add(job)
                if job in self.queue:
                    self.queue.remove(job)


@dataclass
class Simulation:
    """A driver over a scripted scheduler."""

    scheduler: ScriptedScheduler
    work: ScriptedWork
    driver: Driver
    notes: list[str]


def simulation(
    scripts: Mapping[str, Sequence[Script]] | None = None,
    tries: int = 2,
    nodes: int = 64,
    drawn: random.Random | None = None,
) -> Simulation:
    clock = ScriptedClock()
    work = ScriptedWork(clock)
    scheduler = ScriptedScheduler(clock, work, scripts or {}, nodes, drawn)
    notes: list[str] = []
    return Simulation(scheduler, work, Driver(scheduler, work, tries, clock, clock.wait, notes.append), notes)


def unit(name: str, *needs: str) -> Unit:
    return Unit(name, Path("units") / name, "token", needs)
