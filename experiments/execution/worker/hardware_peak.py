"""Measure the hardware peak within a time budget: copy bandwidth, and matrix products per dtype.

It imports torch when it measures, so only child processes use it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from runtime_matrix.experiments.measurement.machine import machine_change, read_machine
from runtime_matrix.experiments.records.schema import HardwarePeak

BUDGET_S = 2.5  # at most 3 s with reading the machine and an overrun of the last call
_COPY_SHARE = 0.3  # of the budget
_LARGEST_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}  # far more than any cache
_SMALLEST_COPY_BYTES = 1 << 26  # a smaller copy might stay in a cache
_WIDTHS = {"cpu": (128, 256, 512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192)}
_REPEATS = 5
_DTYPES = ("float32", "bfloat16", "float16")
_BLOCK = 1 << 20  # size of the repeated random block; constant data takes less power and so multiplies faster
_HALF = ("bfloat16", "float16")
_CUBE = 8  # factor of work when the width of a product doubles

Clock = Callable[[], float]


def measure(device: str, threads: int, dtypes: Sequence[str], clock: Clock = time.perf_counter) -> HardwarePeak:
    """Return the rates of copies (bytes/s) and products (FLOP/s), and how busy the machine was meanwhile.

    A rate is missing if the smallest size did not fit into the time, or if the device has no products of the dtype. On
    a GPU both 16-bit types are measured if one is requested, because engines fall back from one to the other.
    """
    import torch

    torch.set_num_threads(threads)
    torch.ones(1, device=device)  # the first tensor creates the GPU's context, which takes seconds
    before, start = read_machine(), clock()
    copy = _fastest_copy(device, start + _COPY_SHARE * BUDGET_S, clock)
    names = _measured_dtypes(device, dtypes)
    rates = {}
    for index, name in enumerate(names):
        now = clock()
        share_s = (start + BUDGET_S - now) / (len(names) - index)  # the remaining time is shared equally
        try:
            rates[name] = _fastest_product(device, name, now + share_s, clock)
        except RuntimeError as error:  # for example, an older GPU without bfloat16
            print(f"no products of {name}: {error}", file=sys.stderr)
    change = machine_change(before)
    return HardwarePeak(
        copy_bytes_per_s=copy,
        flops_per_s={name: rate for name, rate in rates.items() if rate is not None},
        wall_s=round(clock() - start, 4),
        threads=threads,
        device_name=torch.cuda.get_device_name() if device == "cuda" else None,
        load_1min=change.load_1min,
        others_ratio=change.others_ratio,
        steal_ratio=change.steal_ratio,
        cpu_mhz=change.cpu_mhz,
    )


def _measured_dtypes(device: str, dtypes: Sequence[str]) -> list[str]:
    halves = _HALF if device == "cuda" and set(dtypes) & set(_HALF) else ()
    return [name for name in _DTYPES if name in dtypes or name in halves]


def _fastest_copy(device: str, deadline: float, clock: Clock) -> float | None:
    """Return the rate of the largest copy that fits into the time, because smaller copies may stay in a cache."""
    import torch

    rate, size = None, _SMALLEST_COPY_BYTES
    while size <= _LARGEST_COPY_BYTES[device]:
        source = _random((size // 4,), device, "float32")
        target = torch.empty_like(source)
        copy_s = _best(partial(target.copy_, source), device, deadline, clock)
        if copy_s is None:
            break
        rate = 2 * size / copy_s
        if clock() + 2 * _REPEATS * copy_s > deadline:
            break
        size *= 2
    return rate


def _fastest_product(device: str, dtype: str, deadline: float, clock: Clock) -> float | None:
    """Return the best rate of products of growing width; none is started that would end after the deadline."""
    import torch

    best: float | None = None
    product_s = 0.0
    for width in _WIDTHS[device]:
        if best is not None and clock() + _CUBE * product_s > deadline:
            break
        matrix = _random((width, width), device, dtype)
        out = torch.empty_like(matrix)
        shortest_s = _best(partial(torch.mm, matrix, matrix, out=out), device, deadline, clock)
        if shortest_s is None:
            break
        product_s = shortest_s
        best = max(best or 0.0, 2 * width**3 / product_s)
    return best


def _random(shape: tuple[int, ...], device: str, dtype: str) -> Any:
    import torch

    count = math.prod(shape)
    block = torch.rand(min(count, _BLOCK), device=device).to(getattr(torch, dtype))
    return block.repeat(-(-count // len(block)))[:count].view(shape)


def _best(call: Callable[[], Any], device: str, deadline: float, clock: Clock) -> float | None:
    """Return the shortest time of a few calls, in seconds; none is started that would end after the deadline."""
    import torch

    shortest = math.inf
    for _ in range(_REPEATS):
        start = clock()
        if start >= deadline or (shortest < math.inf and start + shortest > deadline):
            break
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        shortest = min(shortest, clock() - start)
    return shortest if shortest < math.inf else None
