"""Reads the launches of an interleaved comparison: ratios with their intervals, derived whenever they are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Literal

import numpy as np

from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import launch_log_ratio, mean_interval

Launches = Sequence[Launch]
SideName = Literal["candidate", "reference"]
_SIDES: tuple[SideName, SideName] = ("candidate", "reference")
# What a launch tells of a cell, in seconds: the time to the first token; the mean time of a step, and its percentiles;
# a whole request; a step of longer texts; a whole batch.
PHASES = ("prefill", "decode", "decode_p95", "decode_p99", "request", "long_decode", "throughput")
_CPU_BOUND_RATIO, _CPU_BOUND_LEVEL = 0.03, 0.99


class Clock(Enum):
    """What a ratio is of. One is declared for each comparison."""

    WALL = "wall"  # wall time at the cell's own threads
    CPU = "cpu"  # CPU time of one thread, child processes counted: the low-noise one
    ONE_THREAD_WALL = "one_thread_wall"  # wall time of the same rounds

    @property
    def said(self) -> str:
        return {"wall": "wall time", "cpu": "CPU time of one thread", "one_thread_wall": "wall time of one thread"}[
            self.value
        ]


def log_ratios(launches: Launches, phase: str, clock: Clock) -> list[float]:
    """Return log(candidate's time / reference's time), one for each launch that measured the phase.

    KeyError for a phase that is not in PHASES.
    """
    if phase not in PHASES:
        raise KeyError(phase)
    found = [_log_ratio(launch, phase, clock) for launch in launches]
    return [value for value in found if value is not None]


def halves(launches: Launches, phase: str, clock: Clock) -> list[tuple[float, float]]:
    """Return the log ratio of the first half of each launch's rounds, and of the second: equal where all is steady."""
    found = []
    for launch in launches:
        mine, theirs = (_times(launch, phase, clock, side) for side in _SIDES)
        middle = min(len(mine), len(theirs)) // 2
        if middle:
            first, second = slice(0, middle), slice(middle, None)
            found.append((launch_log_ratio(mine[first], theirs[first]), launch_log_ratio(mine[second], theirs[second])))
    return found


def ratio(launches: Launches, phase: str, clock: Clock, level: float = 0.95) -> Interval | None:
    """Return the speedup over the reference (above 1 is faster) with its interval; None for fewer than two launches."""
    interval = mean_interval([-value for value in log_ratios(launches, phase, clock)], level)
    return interval.exp() if interval else None


def seconds(launches: Launches, phase: str, side: SideName = "candidate") -> list[float]:
    """Return the wall seconds of a cell at its own threads, one for each launch: the median over its rounds."""
    found = [_times(launch, phase, Clock.WALL, side) for launch in launches]
    return [float(np.median(times)) for times in found if times]


def interval_of(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the interval of positive values' geometric mean over launches; None for fewer than two."""
    found = mean_interval([math.log(value) for value in values], level)
    return found.exp() if found else None


def memory_ratio(launches: Launches) -> Interval | None:
    """Return candidate's peak / reference's peak over launches, of a GPU's memory where they ran on one.

    None where it is not known.
    """
    is_on_gpu = any(launch.device == "cuda" for launch in launches)
    key = "peak_device_bytes" if is_on_gpu else "peak_host_bytes"
    pairs = [(getattr(launch.candidate_memory, key), getattr(launch.reference_memory, key)) for launch in launches]
    if not pairs or not all(mine and theirs for mine, theirs in pairs):
        return None
    interval = mean_interval([math.log(mine / theirs) for mine, theirs in pairs])
    return interval.exp() if interval else None


def waiting(launches: Launches, phase: str) -> Interval | None:
    """Return by which factor a cell's wall ratio exceeds its CPU ratio at one thread (1: it is bound by its CPU time).

    Both are candidate over reference, of the same rounds. None for fewer than two launches. At several threads the two
    differ lawfully, so that nothing is said of them.
    """
    walls, cpus = (log_ratios(launches, phase, clock) for clock in (Clock.ONE_THREAD_WALL, Clock.CPU))
    interval = mean_interval([wall - cpu for wall, cpu in zip(walls, cpus, strict=True)], _CPU_BOUND_LEVEL)
    return interval.exp() if interval else None


def is_cpu_bound(launches: Launches, phase: str) -> bool | None:
    """Say whether CPU time may stand for the cell's speed: wall and CPU ratio do not differ by more than 3 %."""
    found = waiting(launches, phase)
    if found is None:
        return None
    return found.low <= 1 + _CPU_BOUND_RATIO and found.high >= 1 / (1 + _CPU_BOUND_RATIO)


def thread_scaling(launches: Launches, side: SideName) -> float | None:
    """Return how many times faster a step is at the cell's own threads than at one; None where either is unknown."""
    pairs = [
        (_times(launch, "decode", Clock.ONE_THREAD_WALL, side), _times(launch, "decode", Clock.WALL, side))
        for launch in launches
        if launch.one_thread is not None
    ]
    logs = [math.log(float(np.median(one)) / float(np.median(own))) for one, own in pairs if one and own]
    return math.exp(float(np.mean(logs))) if logs else None


def recompiles(launches: Launches) -> int | None:
    """Return the graphs that the cell compiled within timed rounds; None where its runtime does not count."""
    counts = [block.candidate.recompiles for launch in launches for block in launch.blocks().values()]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _log_ratio(launch: Launch, phase: str, clock: Clock) -> float | None:
    mine, theirs = (_times(launch, phase, clock, side) for side in _SIDES)
    return launch_log_ratio(mine, theirs) if mine and theirs else None


def _times(launch: Launch, phase: str, clock: Clock, side: SideName) -> list[float]:
    """Return the seconds of a phase, one for each round; a percentile is one for each launch."""
    name = {"long_decode": "long", "throughput": "batched"}.get(phase, "own")
    if clock is not Clock.WALL:
        # A cell of one thread has no other rounds than its own.
        name = "own" if launch.threads == 1 and launch.one_thread is None else "one_thread"
        if phase not in ("prefill", "decode") or launch.device != "cpu":
            return []
    block = launch.blocks().get(name)
    if block is None:
        return []
    rounds = block.side(side)
    if phase in ("request", "throughput"):
        rest_s = [sum(steps) for steps in rounds.steps_s]
        return [first + rest for first, rest in zip(rounds.prefill.wall_s, rest_s, strict=True)]
    if phase.startswith("decode_p"):
        steps_s = [step for steps in rounds.steps_s for step in steps]
        return [float(np.percentile(steps_s, int(phase.removeprefix("decode_p"))))]
    times = rounds.prefill if phase == "prefill" else rounds.decode
    return times.cpu_s if clock is Clock.CPU else times.wall_s
