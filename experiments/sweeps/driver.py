"""Drive the units of a sweep through a scheduler: submit what is ready, take each outcome once, retry what is lost.

It knows neither cells nor files: `Work` does. It holds no state that is not rebuilt by the next command.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.launchers.launcher import JobState, Scheduler, Unit, Unreachable
from runtime_matrix.experiments.records.schema import Status

_STOP_S = 12.0  # for jobs to end after they were cancelled; a second signal does not wait
_STEP_S = 0.5


@dataclass(frozen=True)
class Ending:
    """How a unit ended."""

    status: Status
    reason: str | None = None


class Work(Protocol):
    """What the units compute."""

    def prepare(self, unit: Unit) -> bool:
        """Write what the unit computes; False: there is nothing to do. Called once, when all its needs have ended."""
        ...

    def submitted(self, unit: Unit, job: str) -> None:
        """Store the id of the unit's job, so that a later command finds it."""
        ...

    def has_started(self, unit: Unit) -> bool:
        """Return whether a process has begun to compute the unit."""
        ...

    def outcome(self, unit: Unit) -> Ending | None:
        """Return the outcome; None if there is none yet."""
        ...

    def fail(self, unit: Unit, state: JobState) -> Ending:
        """Give the unit the outcome of its job, which left none, and return the outcome that counts.

        That is another one if the job has just written it.
        """
        ...

    def lost(self, unit: Unit, reason: str) -> None:
        """Store that a try was lost; another one follows."""
        ...

    def ended(self, unit: Unit, ending: Ending) -> None:
        """Take the outcome. Called once per unit."""
        ...


class GivenUpError(UserError):
    """The scheduler has not answered for long; its jobs are left to a later command."""


class Driver:
    """Runs units. `wait` sleeps for the given seconds; `note` shows a line of progress."""

    def __init__(
        self,
        scheduler: Scheduler,
        work: Work,
        tries: int,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
        note: Callable[[str], None] = lambda text: None,
    ):
        self._scheduler, self._work, self._tries = scheduler, work, tries
        self._clock, self._wait, self._note = clock, wait, note
        self._units: dict[str, Unit] = {}
        self._missing: Counter[str] = Counter()  # needs of each unit that have not ended
        self._dependents: dict[str, list[str]] = {}
        self._ready: deque[Unit] = deque()
        self._prepared: set[str] = set()
        self._jobs: dict[str, str] = {}  # of units that are submitted and have not ended
        self._states: Mapping[str, JobState] = {}
        self._submissions: Counter[str] = Counter()
        self._gone_at: dict[str, float] = {}  # units whose job has ended, without an outcome so far
        self._left = 0  # units that have not ended
        self._is_closed = self._has_cancelled = False  # nothing is submitted after the deadline
        self._shown = ""
        self._silent_since: float | None = None

    def run(self, units: Sequence[Unit], jobs: Mapping[str, str], deadline: Deadline | None = None) -> bool:
        """Run the units; `jobs` are those of an earlier command that still run, by unit. Return whether all have ended.

        Nothing is started after the deadline. KeyboardInterrupt and errors end all jobs and are raised again; UserError
        if the scheduler refuses a unit, GivenUpError if it does not answer for long.
        """
        self._add(units, jobs)
        try:
            while self._left:
                if deadline is not None and deadline.is_over():
                    self._close()
                self._submit()
                if not self._jobs and not self._ready:
                    break
                self._show()
                self._wait(self._scheduler.poll_s)
                self._poll()
        except GivenUpError:
            raise
        except KeyboardInterrupt as stopped:
            self._abort(getattr(stopped, "reason", "interrupted by the user"))
            raise
        except BaseException:
            self._abort("the sweep ended with an error")
            raise
        return not self._left

    def _add(self, units: Sequence[Unit], jobs: Mapping[str, str]) -> None:
        self._units = {unit.name: unit for unit in units}
        self._left = len(units)
        for unit in units:
            needs = [name for name in unit.needs if name in self._units]
            self._missing[unit.name] = len(needs)
            for name in needs:
                self._dependents.setdefault(name, []).append(unit.name)
        for unit in units:
            if unit.name in jobs:
                self._jobs[unit.name] = jobs[unit.name]
                self._submissions[unit.name] = 1
            elif not self._missing[unit.name]:
                self._ready.append(unit)

    def _close(self) -> None:
        """End what has not started, and submit nothing more."""
        self._ready.clear()
        self._is_closed = True

        def cancel() -> None:
            self._scheduler.cancel(list(self._jobs.values()), only_waiting=True)
            self._has_cancelled = True

        if not self._has_cancelled:
            self._asked(cancel)

    def _submit(self) -> None:
        batch: dict[str, Unit] = {}
        while self._ready and len(self._jobs) + len(batch) < self._scheduler.most_jobs:
            unit = self._ready.popleft()
            if unit.name in self._prepared or self._work.prepare(unit):
                self._prepared.add(unit.name)
                batch[unit.name] = unit
            else:
                self._end(unit, None)  # its dependents may be ready now

        def submit() -> None:
            for unit, job in self._scheduler.submit(list(batch.values())):
                self._jobs[unit.name] = job
                self._submissions[unit.name] += 1
                del batch[unit.name]
                self._work.submitted(unit, job)

        if batch:
            self._asked(submit)
            self._ready.extendleft(reversed(batch.values()))  # those that an unreachable scheduler did not take

    def _asked(self, question: Callable[[], None]) -> None:
        """Ask the scheduler; GivenUpError if it has been unreachable for longer than its patience."""
        try:
            question()
        except Unreachable as error:
            now = self._clock()
            self._silent_since = now if self._silent_since is None else self._silent_since
            silent_s = now - self._silent_since
            if silent_s >= self._scheduler.patience_s:
                raise GivenUpError(
                    f"the scheduler has not answered for {silent_s:.0f} s: {error}; its jobs go on, and the same "
                    "command with resume=true continues"
                ) from error
            self._tell(f"the scheduler does not answer: {error}")
        else:
            self._silent_since = None

    def _poll(self) -> None:
        self._states = {}

        def poll() -> None:
            self._states = self._scheduler.poll(list(self._jobs.values()))

        self._asked(poll)
        for name, job in list(self._jobs.items()):
            unit, state = self._units[name], self._states.get(job)
            if state is not None and state.phase == "waiting" and self._submissions[name] == 1:
                continue
            ending = self._work.outcome(unit)
            if ending is not None:
                if self._submissions[name] > 1:  # it may be that of a try that was believed lost
                    self._asked(lambda job=job: self._scheduler.cancel([job]))  # type: ignore[misc]
                self._end(unit, ending)
            elif state is not None and state.phase in ("ended", "lost") and self._has_settled(name):
                self._take(unit, state)

    def _has_settled(self, name: str) -> bool:
        """Return whether an outcome would be visible by now."""
        return self._clock() - self._gone_at.setdefault(name, self._clock()) >= self._scheduler.settle_s

    def _take(self, unit: Unit, state: JobState) -> None:
        """Take the end of a job that left no outcome."""
        del self._gone_at[unit.name]
        if self._is_closed and not self._work.has_started(unit):
            del self._jobs[unit.name]  # left to a later command
        elif state.phase == "ended":
            self._end(unit, self._work.fail(unit, state))
        elif self._submissions[unit.name] < self._tries:
            self._work.lost(unit, state.reason or "lost")
            del self._jobs[unit.name]
            if not self._is_closed:
                self._ready.append(unit)
        else:
            tries = self._submissions[unit.name]
            reason = f"{state.reason or 'lost'}; lost {tries} times" if tries > 1 else state.reason
            self._end(unit, self._work.fail(unit, JobState("ended", "crash", reason, state.node)))

    def _end(self, unit: Unit, ending: Ending | None) -> None:
        self._jobs.pop(unit.name, None)
        self._gone_at.pop(unit.name, None)
        self._left -= 1
        if ending is not None:
            self._work.ended(unit, ending)
        for name in self._dependents.pop(unit.name, ()):
            self._missing[name] -= 1
            if not self._missing[name] and name not in self._jobs and not self._is_closed:
                self._ready.append(self._units[name])

    def _abort(self, reason: str) -> None:
        """End all jobs, and record those that had started as interrupted."""
        until = self._clock() + _STOP_S
        with suppress(Unreachable, UserError):
            self._scheduler.cancel(list(self._jobs.values()))
            while any(self._is_alive(job) for job in self._jobs.values()) and self._clock() < until:
                self._wait(_STEP_S)
                self._states = self._scheduler.poll(list(self._jobs.values()))
        for name in list(self._jobs):
            unit = self._units[name]
            ending = self._work.outcome(unit)
            if ending is None and self._work.has_started(unit):
                ending = self._work.fail(unit, JobState("ended", "interrupted", reason))
            if ending is not None:
                del self._jobs[name]
                self._work.ended(unit, ending)

    def _is_alive(self, job: str) -> bool:
        return job not in self._states or self._states[job].phase in ("waiting", "running")

    def _show(self) -> None:
        phases = Counter(state.phase for job in self._jobs.values() if (state := self._states.get(job)) is not None)
        reasons = {state.reason for state in self._states.values() if state.phase == "waiting" and state.reason}
        why = f" ({', '.join(sorted(reasons))})" if reasons else ""
        running, ended = phases["running"], len(self._units) - self._left
        waiting = len(self._jobs) - running
        self._tell(f"{ended} of {len(self._units)} units have ended, {running} run, {waiting} wait{why}")

    def _tell(self, line: str) -> None:
        if line != self._shown:
            self._note(line)
        self._shown = line
