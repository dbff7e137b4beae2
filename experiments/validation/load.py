"""A competing load: one process a core that multiplies matrices, as another job on the machine would."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SIZE = 384  # three matrices of it fill a core's cache, so that memory is contended for as well


@contextmanager
def busy_cores(is_wanted: bool = True) -> Iterator[None]:
    """Keep every core busy meanwhile."""
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
