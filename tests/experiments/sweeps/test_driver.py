"""The driver of units over a scripted scheduler: its order, each ending once, retries, deadlines and interruptions."""

from __future__ import annotations

import random
import time

import pytest
from typing_extensions import override

from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.launchers.launcher import JobState, Unit
from runtime_matrix.experiments.sweeps.driver import Ending, GivenUpError
from tests.experiments.sweeps.scripted_scheduler import Script, simulation, unit

LOST = JobState("lost", reason="NODE_FAIL, Slurm job 7 on n1", node="n1")


class Over(Deadline):
    """A deadline that is over after it was asked a few times."""

    def __init__(self, after: int):
        super().__init__(None)
        self._left = after

    @override
    def is_over(self, needed_s: float = 0.0) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_unit_waits_for_what_it_needs() -> None:
    scripted = simulation()
    units = [unit("comparison", "a", "b"), unit("a", "shard-0", "shard-1"), unit("b")]
    assert scripted.driver.run([*units, unit("shard-0"), unit("shard-1")], {})
    order = scripted.work.order
    assert order[-1] == "comparison"
    assert order.index("a") > max(order.index("shard-0"), order.index("shard-1"))
    assert set(scripted.work.taken.values()) == {Ending("ok")}


def test_a_unit_with_nothing_to_do_is_not_submitted() -> None:
    scripted = simulation()
    scripted.work.nothing_to_do = {"comparison"}
    assert scripted.driver.run([unit("a"), unit("comparison", "a"), unit("last", "comparison")], {})
    assert list(scripted.work.taken) == ["a", "last"]
    assert scripted.scheduler.submissions == 2


def test_a_lost_unit_is_submitted_again() -> None:
    scripted = simulation({"a": [Script(state=LOST, writes_at_s=None)]})
    assert scripted.driver.run([unit("a")], {})
    assert scripted.work.taken == {"a": Ending("ok")}
    assert scripted.work.losses == {"a": 1}


def test_a_unit_that_is_lost_as_often_as_allowed_is_a_crash() -> None:
    scripted = simulation({"a": [Script(state=LOST, writes_at_s=None)] * 3}, tries=3)
    assert scripted.driver.run([unit("a")], {})
    assert scripted.work.taken == {"a": Ending("crash", "NODE_FAIL, Slurm job 7 on n1; lost 3 times")}


@pytest.mark.parametrize("status", ["timeout", "interrupted", "out_of_memory", "crash"])
def test_a_job_without_an_outcome_gives_its_state(status: str) -> None:
    state = JobState("ended", status, f"because of {status}")  # type: ignore[arg-type]
    scripted = simulation({"a": [Script(state=state, writes_at_s=None)]})
    assert scripted.driver.run([unit("a")], {})
    assert scripted.work.taken == {"a": Ending(status, f"because of {status}")}  # type: ignore[arg-type]


def test_an_outcome_counts_that_is_visible_after_the_job_ended() -> None:
    scripted = simulation({"a": [Script(lasts_s=1, writes_at_s=2)]})
    assert scripted.driver.run([unit("a")], {})
    assert scripted.work.taken == {"a": Ending("ok")}


def test_of_two_tries_the_first_outcome_counts_and_the_other_is_cancelled() -> None:
    believed_lost = Script(lasts_s=1, state=LOST, writes_at_s=8, outcome=Ending("ok", "of the first try"))
    scripted = simulation({"a": [believed_lost, Script(lasts_s=50, writes_at_s=50)]})
    assert scripted.driver.run([unit("a")], {})
    assert scripted.work.taken == {"a": Ending("ok", "of the first try")}
    assert scripted.scheduler.cancelled == {"job-2"}


def test_a_job_of_an_earlier_command_is_not_submitted_again() -> None:
    scripted = simulation()
    scripted.scheduler.jobs["job-0"] = (unit("a"), Script())
    scripted.scheduler.queue.append("job-0")
    assert scripted.driver.run([unit("a"), unit("b", "a")], {"a": "job-0"})
    assert scripted.scheduler.submissions == 1
    assert list(scripted.work.taken) == ["a", "b"]


def test_after_the_deadline_running_units_end_and_waiting_ones_are_left() -> None:
    scripted = simulation({name: [Script(lasts_s=20, writes_at_s=20)] for name in "abc"}, nodes=1)
    assert not scripted.driver.run([unit("a"), unit("b"), unit("c"), unit("d", "a")], {}, Over(after=4))
    assert scripted.work.taken == {"a": Ending("ok")}
    assert scripted.scheduler.cancelled == {"job-2", "job-3"}


def test_an_interruption_cancels_all_jobs_and_records_those_that_had_started() -> None:
    scripted = simulation({name: [Script(lasts_s=100, writes_at_s=100)] for name in "ab"}, nodes=1)
    wait, waits = scripted.scheduler.clock.wait, iter([None, None, KeyboardInterrupt])

    def interrupted(seconds: float) -> None:
        wait(seconds)
        if (error := next(waits, None)) is not None:
            raise error

    scripted.driver._wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        scripted.driver.run([unit("a"), unit("b")], {})
    assert scripted.scheduler.cancelled == {"job-1", "job-2"}
    assert scripted.work.taken == {"a": Ending("interrupted", "interrupted by the user")}


def test_a_silent_scheduler_is_waited_for_and_then_left_with_its_jobs() -> None:
    scripted = simulation({"a": [Script(lasts_s=30, writes_at_s=30)]})
    scripted.scheduler.silences = [(5, 60)]
    assert scripted.driver.run([unit("a")], {})
    assert any("does not answer" in note for note in scripted.notes)
    scripted = simulation({"a": [Script(lasts_s=1000, writes_at_s=1000)]})
    scripted.scheduler.silences = [(5, 500)]
    with pytest.raises(GivenUpError, match="resume=true continues"):
        scripted.driver.run([unit("a")], {})
    assert scripted.scheduler.cancelled == set()
    assert scripted.work.taken == {}


def test_outcomes_are_taken_while_the_scheduler_is_silent() -> None:
    scripted = simulation({"a": [Script(lasts_s=5, writes_at_s=5)]})
    scripted.scheduler.silences = [(3, 90)]
    assert scripted.driver.run([unit("a")], {})
    assert scripted.scheduler.clock() < 10


def random_script(drawn: random.Random) -> Script:
    """Return what happens to a try: mostly an outcome; else a failure, a loss, or a loss that was none."""
    lasts_s, kind = drawn.uniform(0.5, 9), drawn.random()
    if kind < 0.75:
        return Script(lasts_s, writes_at_s=lasts_s - drawn.uniform(0, 0.4))
    if kind < 0.80:
        return Script(lasts_s, writes_at_s=lasts_s, outcome=Ending("error", "of the cell"))
    if kind < 0.85:
        return Script(lasts_s, JobState("ended", "timeout", "TIMEOUT"), writes_at_s=None)
    if kind < 0.95:
        return Script(lasts_s, LOST, writes_at_s=None)
    return Script(lasts_s, LOST, writes_at_s=lasts_s + drawn.uniform(0, 30))


def many(count: int) -> list[Unit]:
    """Return groups of four cells, each with shards, and a comparison per group."""
    units: list[Unit] = []
    for group in range(count // 40):
        cells = [f"cell-{group}-{index}" for index in range(4)]
        for cell in cells:
            shards = [unit(f"{cell}-shard-{number}") for number in range(8)]
            units += [*shards, unit(cell, *(shard.name for shard in shards))]
        units.append(unit(f"comparison-{group}", *cells))
    return [*units, *(unit(f"further-{number}") for number in range(count - len(units)))]


def simulated(count: int, seed: int) -> tuple[float, float]:
    """Run units with random failures; return CPU seconds and looks for an outcome, both per unit."""
    drawn = random.Random(seed)
    units = many(count)
    scripts = {one.name: [random_script(drawn) for _ in range(4)] for one in units}
    scripted = simulation(scripts, tries=3, nodes=200, drawn=drawn)
    start = time.process_time()
    assert scripted.driver.run(units, {})
    duration_s = time.process_time() - start
    work = scripted.work
    assert work.taken.keys() == {one.name for one in units}  # each at most once: `ended` asserts it
    assert work.taken == work.outcomes
    assert work.calls["prepare"] == count
    statuses = {ending.status for ending in work.taken.values()}
    assert statuses == {"ok", "error", "timeout", "crash"}
    assert sum(work.losses.values()) > count / 20
    return duration_s / count, work.calls["outcome"] / count


def test_of_10_000_units_none_is_lost_or_counted_twice_and_time_grows_linearly() -> None:
    small_s, small_calls = simulated(2_000, seed=1)
    large_s, large_calls = simulated(10_000, seed=2)
    assert large_calls < 1.5 * small_calls
    assert large_s < 3 * small_s  # five times as much if it grew with the square
