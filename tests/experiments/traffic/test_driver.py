from __future__ import annotations

from typing import Any

import pytest

from runtime_matrix.experiments.traffic.driver import ClosedLoop, OpenLoop, drive
from runtime_matrix.runtimes.requests import Failed, Generated
from tests.experiments.traffic.scripted import ScriptedClock, ScriptedEngine, requests


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


def test_times_are_those_of_the_engine(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock)
    driven = drive(engine.start, requests(2), OpenLoop([0.0, 0.5]), 60, clock=clock)
    for served in driven.requests:
        assert served.is_complete
        assert served.ttft_s == pytest.approx(0.1)
        assert served.tpot_s == pytest.approx(0.01)
        assert served.itl_s == pytest.approx([0.01] * 4)
        assert served.e2e_s == pytest.approx(0.14)
    assert driven.duration_s == pytest.approx(0.64)
    assert driven.most_in_flight == 1


def test_an_open_loop_does_not_wait_for_the_engine(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock, first_s=10.0)
    driven = drive(engine.start, requests(20), OpenLoop([number * 0.1 for number in range(20)]), 60, clock=clock)
    assert engine.starts_s == pytest.approx([1000 + number * 0.1 for number in range(20)])
    assert driven.most_in_flight == 20


def test_times_count_from_the_plan_although_starts_are_late(clock: ScriptedClock) -> None:
    """Coordinated omission: a start that blocks delays the later ones, and they must not look fast."""
    engine = ScriptedEngine(clock)
    engine.start_takes_s = 1.0
    driven = drive(engine.start, requests(4), OpenLoop([0.0, 0.1, 0.2, 0.3]), 60, clock=clock)
    starts = [served.started_s for served in driven.requests]
    assert starts == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert [served.planned_s for served in driven.requests] == [0.0, 0.1, 0.2, 0.3]
    for served, start_s in zip(driven.requests, starts, strict=True):
        assert start_s is not None
        assert served.ttft_s >= start_s - served.planned_s
    assert driven.requests[-1].ttft_s == pytest.approx(4.0 - 0.3 + 0.1)


def test_requests_that_wait_in_the_engine_are_slow(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock, first_s=1.0, token_s=0.0, slots=1)
    driven = drive(engine.start, requests(4), OpenLoop([0.0, 0.0, 0.0, 0.0]), 60, clock=clock)
    assert [served.ttft_s for served in driven.requests] == pytest.approx([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_a_closed_loop_keeps_as_many_in_flight(clock: ScriptedClock, concurrency: int) -> None:
    engine = ScriptedEngine(clock)
    driven = drive(engine.start, requests(24), ClosedLoop(concurrency), 60, clock=clock)
    assert engine.most_in_flight == driven.most_in_flight == concurrency
    assert driven.duration_s == pytest.approx(24 / concurrency * 0.14)  # no slot was ever empty
    assert [served.ttft_s for served in driven.requests] == pytest.approx([0.1] * 24)  # counted from each start


def test_a_closed_loop_of_fewer_requests_than_slots_ends(clock: ScriptedClock) -> None:
    assert drive(ScriptedEngine(clock).start, requests(2), ClosedLoop(8), 60, clock=clock).most_in_flight == 2


def test_a_request_is_cancelled_at_its_limit_which_counts_from_the_plan(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock, first_s=3.0)
    driven = drive(engine.start, requests(3), OpenLoop([0.0, 0.5, 1.0]), 2.0, clock=clock)
    assert engine.cancelled == [0, 1, 2]
    assert [served.ended_s for served in driven.requests] == pytest.approx([2.0, 2.5, 3.0])
    assert all(isinstance(served.result, Failed) and served.result.is_cancelled for served in driven.requests)


def test_an_unconfirmed_cancellation_delays_no_other(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock, first_s=8.0)
    engine.confirms = False
    drive(engine.start, requests(3), OpenLoop([0.0, 0.5, 1.0]), 2.0, clock=clock)
    assert engine.cancelled == [0, 1, 2]
    assert engine.cancelled_s == pytest.approx([1002.0, 1002.5, 1003.0])


def test_an_engine_that_never_confirms_a_cancellation_is_an_error(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock, first_s=1e9)
    engine.confirms = False
    with pytest.raises(RuntimeError, match="did not end a request within 10 s of its cancellation"):
        drive(engine.start, requests(3), ClosedLoop(1), 2.0, clock=clock)
    assert clock.now_s == pytest.approx(1012.0)


def test_failures_are_kept_and_do_not_stop_the_load(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock)
    engine.fails = {1: "HTTP 503"}
    driven = drive(engine.start, requests(4), ClosedLoop(2), 60, clock=clock)
    assert [served.is_complete for served in driven.requests] == [True, False, True, True]
    assert driven.requests[1].result == Failed("HTTP 503")
    assert isinstance(driven.requests[3].result, Generated)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_cancels_all_that_is_in_flight(clock: ScriptedClock, error: type[BaseException]) -> None:
    engine = ScriptedEngine(clock)

    def interrupted(ended: int) -> None:
        if ended == 3:
            raise error

    with pytest.raises(error):
        drive(engine.start, requests(10), ClosedLoop(4), 60, interrupted, clock)
    assert engine.in_flight == 0
    assert len(engine.cancelled) > 0


def test_a_start_that_raises_cancels_the_others(clock: ScriptedClock) -> None:
    engine = ScriptedEngine(clock)

    def start(request: Any, listener: Any) -> Any:
        if len(engine.starts_s) == 2:
            raise OSError("no more sockets")
        return engine.start(request, listener)

    with pytest.raises(OSError, match="sockets"):
        drive(start, requests(5), ClosedLoop(4), 60, clock=clock)
    assert engine.cancelled == [0, 1]


def test_progress_counts_ended_requests(clock: ScriptedClock) -> None:
    ended: list[int] = []
    drive(ScriptedEngine(clock).start, requests(5), ClosedLoop(2), 60, ended.append, clock)
    assert ended == [1, 2, 3, 4, 5]
