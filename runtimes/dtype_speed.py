"""Detects whether PyTorch has a fast matrix product for a dtype on this CPU, by measurement and not by CPU flags.

Without such a kernel PyTorch falls back to plain loops, which are tens to hundreds of times slower than float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

_WIDTH = 128  # of square matrices; on one core a product takes 0.06 ms in float32, 25 ms in the slowest loops observed
_SPENT_S = 0.05  # time limit per dtype, plus the call already running; 0.2 s in total
_REPEATS = 50
# Threshold, relative to float32's rate: kernels reach 0.3 (by conversion) to 4 times that rate, loops 0.002 to 0.05.
_EMULATED = 0.25


def is_emulated(dtype: str) -> bool:
    """Return whether matrix products in `dtype` are so slow on this processor that they must be emulated."""
    return products_ratio(dtype) < _EMULATED


@cache
def products_ratio(dtype: str) -> float:
    """Return the rate of matrix products in `dtype` relative to float32, measured on one core."""
    import torch

    if dtype == "float32":
        return 1.0
    threads = torch.get_num_threads()
    # Several threads wait for each other, for whole time slices if another process uses a core.
    torch.set_num_threads(1)
    try:
        return _seconds("float32") / _seconds(dtype)
    finally:
        torch.set_num_threads(threads)


def dtype_note(dtype: str, device: str) -> str | None:
    """Return the note for the record if the processor emulates `dtype`, else None."""
    if device != "cpu" or not is_emulated(dtype):
        return None
    ratio = products_ratio(dtype)
    return f"{dtype} is emulated on this processor: its products run at {ratio:.2g} of float32's rate"


def _seconds(dtype: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the shortest time of a matrix product in seconds.

    The first call also creates kernels. Its time is the minimum only if the time limit allows no second call.
    """
    import torch

    matrix = torch.ones(_WIDTH, _WIDTH, dtype=getattr(torch, dtype))
    out = torch.empty_like(matrix)
    times: list[float] = []
    begin = clock()
    while len(times) < _REPEATS and clock() - begin < _SPENT_S:
        start = clock()
        torch.mm(matrix, matrix, out=out)
        times.append(clock() - start)
    return min(times)
