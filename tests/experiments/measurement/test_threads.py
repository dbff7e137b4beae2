"""The threads that share the work of a process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import pytest

from runtime_matrix.experiments.measurement.threads import cpu_by_thread, threads_used


def test_work_is_counted_by_thread() -> None:
    assert threads_used({1: 5.0}, {1: 7.0, 2: 2.0}) == 2.0
    assert threads_used({1: 5.0, 2: 1.0}, {1: 7.0, 2: 1.5}) == 1.25
    assert threads_used({}, {}) is None
    assert threads_used({1: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize("count", [1, 2])
def test_threads_that_compute_are_told_from_those_that_wait(count: int) -> None:
    def work() -> None:
        for _ in range(20):
            hashlib.sha256(b"0" * 2_000_000)  # releases the interpreter's lock

    before = cpu_by_thread()
    ended: list[dict[int, float]] = []
    barrier = threading.Barrier(count)

    def worker(then: Callable[[], None]) -> None:
        work()
        then()

    def wait() -> None:
        barrier.wait()
        ended.append(cpu_by_thread())
        barrier.wait()

    threads = [threading.Thread(target=worker, args=(wait,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threads_used(before, ended[0]) == pytest.approx(count, rel=0.2)
