"""How many threads computed: from given times, and in this process."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from runtime_matrix.experiments.measurement.threads import (
    ThreadTimes,
    busy_threads,
    thread_times,
    threads_named,
    threads_used,
)

OWN = os.getpid()


@pytest.mark.parametrize(
    ("after", "cpu_s", "threads", "busy"),
    [
        ({(OWN, 1): 1.0, (OWN, 2): 1.0}, 2.0, 2, 2),
        ({(OWN, 1): 1.95, (OWN, 2): 0.05}, 2.0, 2, 1),  # a helper thread
        ({(OWN, 1): 1.0, (OWN, 2): 0.0}, 1.0, 2, 1),
        ({(OWN, 1): 1.0, (7, 7): 1.0}, 2.0, 1, 2),  # a child process
        ({(OWN, 1): 1.0}, 2.0, 1, 2),  # a thread that has ended
        ({(OWN, 1): 0.0}, 0.0, 2, 0),
    ],
)
def test_threads_are_busy_with_a_tenth_of_an_even_share(
    after: dict[tuple[int, int], float], cpu_s: float, threads: int, busy: int
) -> None:
    assert busy_threads({}, after, cpu_s, threads) == busy


def test_threads_that_carry_data_do_not_count_and_their_time_is_accounted_for() -> None:
    after = {(OWN, 1): 1.0, (OWN, 2): 0.5, (7, 7): 1.0, (7, 8): 0.5}
    assert busy_threads({}, after, 3.0, 2) == 4
    assert busy_threads({}, after, 3.0, 2, {(OWN, 2), (7, 8)}) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_threads_are_found_by_name() -> None:
    with open("/proc/self/comm", encoding="utf-8") as file:
        name = file.read().strip()
    assert (OWN, OWN) in threads_named({name})
    assert threads_named({"no thread has it"}) == frozenset()
    assert threads_named(()) == frozenset()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_each_thread_of_this_process_has_its_own_time() -> None:
    stop, known = threading.Event(), threading.Event()

    def compute() -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        known.set()
        stop.wait()

    thread = threading.Thread(target=compute)
    thread.start()
    known.wait()
    assert any(seconds >= 0.02 for (_, tid), seconds in thread_times().items() if tid == thread.native_id)
    stop.set()
    thread.join()


def test_work_is_counted_by_thread() -> None:
    one, two = (OWN, 1), (OWN, 2)
    assert threads_used({one: 5.0}, {one: 7.0, two: 2.0}) == 2.0
    assert threads_used({one: 5.0, two: 1.0}, {one: 7.0, two: 1.5}) == 1.25
    assert threads_used({}, {}) is None
    assert threads_used({one: 1.0}, {one: 1.0}) is None


@pytest.mark.parametrize("count", [1, 2])
def test_threads_that_compute_are_told_from_those_that_wait(count: int) -> None:
    def work() -> None:
        for _ in range(20):
            hashlib.sha256(b"0" * 2_000_000)  # releases the interpreter's lock

    before = thread_times()
    ended: list[ThreadTimes] = []
    barrier = threading.Barrier(count)

    def worker(then: Callable[[], None]) -> None:
        work()
        then()

    def wait() -> None:
        barrier.wait()
        ended.append(thread_times())
        barrier.wait()

    threads = [threading.Thread(target=worker, args=(wait,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threads_used(before, ended[0]) == pytest.approx(count, rel=0.2)
