"""Measure how many tokens fit into memory at once, for `batch=auto`.

Two forward passes of different sizes give the bytes per token. The resulting budget is then run once to verify it.
There is no retry with a smaller budget; failure is recorded as out_of_memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from runtime_matrix.experiments.evaluation.finite import check_highest
from runtime_matrix.experiments.records.schema import Fit
from runtime_matrix.runtimes.base import Runtime, Traits

_PROBES = (1024, 4096)  # tokens; the second must stand out from the constant part of memory
_ROW_TOKENS = 128
_MARGIN = 0.25  # share left free for other lengths, benchmarks and processes
_MOST_TOKENS = 65536  # larger batches are not faster, and the trial would take minutes on a CPU


def fit(
    runtime: Runtime, traits: Traits, free_bytes: int, peak_bytes_of: Callable[[Callable[[], None]], int | None]
) -> Fit:
    """Return the largest token budget that fits; `peak_bytes_of(work)` returns the memory peak of a call of `work`.

    MemoryError if not even one row or the budget itself fits, ValueError if the peak cannot be measured,
    FloatingPointError for logits that are not finite.
    """
    row = min(_ROW_TOKENS, traits.max_length or _ROW_TOKENS)
    peaks = [peak_bytes_of(lambda tokens=tokens: _run(runtime, tokens, row)) for tokens in _PROBES]  # type: ignore[misc]
    small, large = peaks
    if small is None or large is None:
        raise ValueError("batch=auto needs the peak of memory, which this system does not report: use batch=null")
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
    """Run one forward pass with a cache of all rows, as a generation does."""
    rows = max(1, tokens // row)
    cache: Any = runtime.new_cache(rows, row)
    logits_B1V = runtime.forward(torch.ones(rows, row, dtype=torch.long), [row] * rows, cache).logits_BKV
    check_highest(logits_B1V.amax(dim=2), "a trial batch")
    runtime.synchronize()
