"""Whether a processor computes products of matrices in a dtype, or emulates them: measured, never read from flags.

PyTorch falls back to plain loops where there is no kernel, which are tens to hundreds of times slower than float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

_WIDTH = 128  # on one core a product takes 0.06 ms in float32, 25 ms in the slowest loops seen
_SPENT_S = 0.05  # on each dtype, and the call that was begun before: 0.2 s in all
_REPEATS = 50
_EMULATED = 0.25  # of float32's rate: kernels reach 0.3 (by conversion) to 4 times it, loops 0.002 to 0.05 times


def is_emulated(dtype: str) -> bool:
    """Say whether products in the dtype are so slow on this processor that there is no kernel for them."""
    return products_ratio(dtype) < _EMULATED


@cache
def products_ratio(dtype: str) -> float:
    """Return the rate of products in the dtype divided by float32's, on one core."""
    import torch

    if dtype == "float32":
        return 1.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other, by time slices where other work holds a core
    try:
        return _seconds("float32") / _seconds(dtype)
    finally:
        torch.set_num_threads(threads)


def dtype_note(dtype: str, device: str) -> str | None:
    """Return what a record says of a dtype that its processor emulates; None where it does not."""
    if device != "cpu" or not is_emulated(dtype):
        return None
    ratio = products_ratio(dtype)
    return f"{dtype} is emulated on this processor: its products run at {ratio:.2g} of float32's rate"


def _seconds(dtype: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the shortest time of a product; the first, in which kernels are made, counts only if there is no time."""
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
