"""How many threads computed: from given times, and in this process."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from runtime_matrix.experiments.measurement.threads import busy_threads, thread_times

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
