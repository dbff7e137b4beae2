"""How many tokens fit into memory at once: `batch=auto`.

Two forward passes of different size tell the bytes a token takes; the budget that follows is then run once, so that
what is announced is what was seen to fit. Nothing is tried smaller when it does not: that is an out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from runtime_matrix.experiments.evaluation.finite import check_highest
from runtime_matrix.experiments.records.schema import Fit
from runtime_matrix.runtimes.base import Runtime, Traits

_PROBES = (1024, 4096)  # tokens; the second must be large enough to be seen above what a process always takes
_ROW_TOKENS = 128
_MARGIN = 0.25  # left free: other lengths, other benchmarks, other processes
_MOST_TOKENS = 65536  # beyond, a batch gains nothing and its one run takes minutes on a CPU


def fit(
    runtime: Runtime, traits: Traits, free_bytes: int, peak_bytes_of: Callable[[Callable[[], None]], int | None]
) -> Fit:
    """Return the largest budget that fits; `peak_bytes_of(work)` says what a call of `work` took at most.

    MemoryError where the budget did not fit after all, ValueError where nothing can be measured, FloatingPointError for
    logits that are not finite.
    """
    row = min(_ROW_TOKENS, traits.max_length or _ROW_TOKENS)
    peaks = [peak_bytes_of(lambda tokens=tokens: _run(runtime, tokens, row)) for tokens in _PROBES]  # type: ignore[misc]
    small, large = peaks
    if small is None or large is None:
        raise ValueError("batch=auto needs a peak of memory, which this system does not tell: give batch=null")
    per_token = max((large - small) / (_PROBES[1] - _PROBES[0]), 1.0)
    fitting = int(free_bytes * (1 - _MARGIN) / per_token)
    if fitting < row:
        raise MemoryError(
            f"out of memory: a row of {row} tokens takes {per_token * row:.0f} bytes, {free_bytes} are free"
        )
    budget = min(fitting, _MOST_TOKENS)
    _run(runtime, budget, row)
    return Fit(
        token_budget=budget,
        bytes_per_token=per_token,
        free_bytes=free_bytes,
        margin=_MARGIN,
        was_capped=fitting > _MOST_TOKENS,
    )


def _run(runtime: Runtime, tokens: int, row: int) -> None:
    """Keep what a generation keeps: a cache of all rows."""
    rows = max(1, tokens // row)
    cache: Any = runtime.new_cache(rows, row)
    logits_B1V = runtime.forward(torch.ones(rows, row, dtype=torch.long), [row] * rows, cache).logits_BKV
    check_highest(logits_B1V.amax(dim=2), "a trial batch")
    runtime.synchronize()
