"""A competing load: one process per core that multiplies matrices, like another job on the machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SIZE = 384  # three such matrices fill a core's cache, so that memory bandwidth is contended too


@contextmanager
def busy_cores(is_wanted: bool = True) -> Iterator[None]:
    """Keep every core busy within the context; do nothing if not `is_wanted`."""
    context = multiprocessing.get_context("spawn")
    count = len(os.sched_getaffinity(0)) if is_wanted else 0
    processes = [context.Process(target=_multiply, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _multiply() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    matrix = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)
    while True:
        matrix @ matrix
