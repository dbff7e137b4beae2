"""The process of a cell that is compared by its speed: loads, warms up, then runs a round whenever it is told to.

A round is one generation. Nothing runs between rounds, so that whoever else is told to run has the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from experiments.cells.plan import Cell


@dataclass(frozen=True)
class Shape:
    batch: int
    prompt_tokens: int
    new_tokens: int
    warmup: int
    threads: int
    cores: tuple[int, ...] = ()  # where its turns are computed; empty: anywhere
    slowed_by: float = 0.0  # share of each call's processor time that is added as computation, to test what compares


def main(cell: Cell, shape: Shape, log: Path, wire: Connection) -> None:
    """Serve rounds until told to stop; says ("ready", memory), ("round", seconds) or ("failed", status, reason)."""
    from experiments.cells.child import isolate

    isolate(log)
    os.environ["OMP_NUM_THREADS"] = str(shape.threads)  # before torch is imported
    try:
        _serve(cell, shape, wire)
    except (EOFError, BrokenPipeError):
        pass  # the comparison is over
    except BaseException as error:
        from experiments.cells.loading import classify

        with suppress(OSError):
            wire.send(("failed", *classify(error)))
    os._exit(0)


def _serve(cell: Cell, shape: Shape, wire: Connection) -> None:
    import dataclasses

    from experiments.cells import device, loading
    from experiments.core.decoding import decode_batch, random_prompts
    from experiments.measurement.clocks import StepTimer
    from experiments.measurement.memory import peak_bytes

    found, _ = device.resolve(cell.config.hw)
    runtime: Any = loading.make_runtime(cell.config.runtime)
    hardware = dataclasses.replace(cell.hardware(found), threads=shape.threads)
    traits = loading.load(cell, runtime, cell.config.runtime, hardware, lambda name: nullcontext())
    if shape.slowed_by:
        runtime = _Slowed(runtime, shape.slowed_by)
    prompts = random_prompts(shape.batch, shape.prompt_tokens, traits.vocabulary, cell.config.seed)

    def one_round() -> dict[str, dict[str, float]]:
        timers = {name: StepTimer(clock, runtime.synchronize) for name, clock in _CLOCKS.items()}
        for timer in timers.values():
            timer.start()
        decode_batch(runtime, traits, prompts, shape.new_tokens, lambda: tick(timers.values()))
        return {
            "prefill": {name: timer.ttft_s for name, timer in timers.items()},
            "decode": {name: _mean(timer.tpot_s) for name, timer in timers.items()},
        }

    def tick(timers: Iterable[StepTimer]) -> None:
        for timer in timers:
            timer.tick()

    for _ in range(shape.warmup):
        one_round()
    _stay_on(shape.cores)
    one_round()
    wire.send(("ready", {"peak_host_bytes": peak_bytes(), "peak_device_bytes": _device_peak(found)}))
    while wire.recv() == "go":
        wire.send(("round", one_round()))


def _stay_on(cores: Sequence[int]) -> None:
    """Keep every thread of this process on the cores that all racers share.

    Cores of one machine differ by several percent while others use it, and a process left alone stays where it is: the
    whole launch would be biased. Not before now, since racers load side by side.
    """
    tasks = Path("/proc/self/task")
    if cores and tasks.exists():
        for task in tasks.iterdir():
            with suppress(OSError):  # a thread that has just ended
                os.sched_setaffinity(int(task.name), cores)


def _device_peak(device: str) -> int | None:
    if device != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated()) or None  # engines that allocate past torch are not known


_CLOCKS = {"cpu_s": time.process_time, "wall_s": time.perf_counter}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class _Slowed:
    """A runtime whose every call is followed by computation of a known share: a slowdown whose size is known."""

    def __init__(self, inner: Any, share: float):
        self._inner, self._share = inner, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        start = time.process_time()
        outputs = self._inner.forward(*arguments, **keywords)
        end = time.process_time()
        until, junk = end + self._share * (end - start), 0
        while time.process_time() < until:
            junk += sum(range(20))
        return outputs
