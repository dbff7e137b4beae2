"""The job `profile`: load a cell's runtime, run a few prompts and steps, and write where their time goes.

Nothing here is timed work of a comparison: profilers slow what they observe, so only shares are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.prefill import generating, prefill
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.execution.worker.device import resolve
from runtime_matrix.experiments.execution.worker.loading import load, make_stepping
from runtime_matrix.experiments.measurement.processes import TreeClock
from runtime_matrix.experiments.measurement.threads import thread_times, threads_used
from runtime_matrix.experiments.records.profile import (
    PROFILE_SCHEMA_VERSION,
    OperationTime,
    PhaseProfile,
    Profile,
    write_profile,
)

if TYPE_CHECKING:
    from runtime_matrix.runtimes.base import Runtime, Traits

_PROMPT_TOKENS, _STEPS = 64, 16
_WARM_UPS, _ROUNDS = 3, 5


def profile(cell: Cell, folder: Path) -> None:
    """Write the profile of a cell's runtime to `folder`."""
    hardware = cell.hardware(resolve(cell.config.hw)[0])
    with make_stepping(cell.config.runtime, "profiled") as runtime:
        traits = load(cell, runtime, cell.config.runtime, hardware, lambda name: nullcontext())
        write_profile(folder, profile_of(runtime, traits, hardware.threads, cell.config.generation))


def profile_of(runtime: Runtime, traits: Traits, threads: int, options: GenerationConfig | None = None) -> Profile:
    """Return the profile of a loaded runtime: one prompt, and the mean of the steps after it."""
    calls = _Calls(runtime, traits, options or GenerationConfig())
    for _ in range(_WARM_UPS):
        calls.prefill()
        calls.decode()
    compiled = runtime.counters().get("compiled_graphs", 0)
    phases = {
        "prefill": _phase(runtime, calls.prefill, 1),
        "decode": _phase(runtime, calls.decode, _STEPS),
    }
    counters = runtime.counters()
    return Profile(
        schema_version=PROFILE_SCHEMA_VERSION,
        threads=threads,
        phases=phases,
        counters=counters,
        recompiles=counters.get("compiled_graphs", 0) - compiled,
    )


class _Calls:
    """The calls of a profile; `decode` continues the prompt of the last `prefill`, so that it computes steps alone."""

    def __init__(self, runtime: Runtime, traits: Traits, options: GenerationConfig):
        longest = traits.max_length or _PROMPT_TOKENS + _STEPS
        tokens = max(1, min(_PROMPT_TOKENS, longest - _STEPS))
        self._runtime, self._traits = generating(runtime, traits, options), traits
        self._chunk = options.prefill_chunk
        self._prompts = draw_prompts("profile", 1, (tokens,), traits.vocabulary)
        self.prefill()
        self._lengths = self._cache.lengths
        self._step_B1 = torch.full((len(self._lengths), 1), self._prompts[0][0])

    def prefill(self) -> None:
        _, self._cache = prefill(self._runtime, self._traits, self._prompts, _STEPS, self._chunk)
        self._runtime.synchronize()

    def decode(self) -> None:
        self._cache.rewind(list(self._lengths))
        for _ in range(_STEPS):
            self._runtime.forward(self._step_B1, [1] * len(self._lengths), self._cache)
        self._runtime.synchronize()


def _phase(runtime: Runtime, call: Callable[[], None], steps: int) -> PhaseProfile:
    """Return the profile of a call of `steps` steps, per step: a median round, then rounds under the profiler."""
    clock, times, before = TreeClock(), [], thread_times()
    for _ in range(_ROUNDS):
        clock.refresh()
        cpu_s, wall_s = clock(), time.perf_counter()
        call()
        times.append((time.perf_counter() - wall_s, clock() - cpu_s))
    shared = threads_used(before, thread_times())
    wall_s, cpu_s = sorted(times)[len(times) // 2]
    spent_s: list[float] = []

    def observed() -> None:
        start = time.perf_counter()
        for _ in range(_ROUNDS):  # the first may find the profiler's own session cold
            call()
        spent_s.append(time.perf_counter() - start)

    operations, calls = runtime.profile(observed), _ROUNDS * steps
    return PhaseProfile(
        wall_s=wall_s / steps,
        cpu_s=cpu_s / steps,
        threads_used=shared,
        profiled_s=spent_s[0] / calls if operations is not None else None,
        operations=[
            OperationTime(
                kind=operation.kind,
                name=operation.name,
                seconds=operation.seconds / calls,
                calls=operation.calls / calls,
            )
            for operation in sorted(operations or (), key=lambda operation: -operation.seconds)
        ],
    )
