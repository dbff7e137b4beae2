"""Ratios with intervals from the launches of an interleaved comparison, computed on reading and never stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from statistics import median
from typing import Literal

import numpy as np

from runtime_matrix.experiments.records.comparison import Launch, ServedSlice
from runtime_matrix.experiments.statistics.descriptive import percentile
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import launch_log_ratio, mean_interval

Launches = Sequence[Launch]
SideName = Literal["candidate", "reference"]
_SIDES: tuple[SideName, SideName] = ("candidate", "reference")
# Times of a launch: to the first token; per step (mean and percentiles); per request; per step of longer texts; per
# batch.
# Under load: per new token of all requests; to the first token, per step and to the last token of a request.
SERVING_PHASES = (
    *("serving_throughput", "serving_ttft", "serving_tpot", "serving_e2e"),
    *("serving_ttft_p95", "serving_e2e_p95"),
)
DETECTION = "detection"  # per round of observed responses
PHASES = (
    "prefill",
    "decode",
    "decode_p95",
    "decode_p99",
    "request",
    "long_decode",
    "throughput",
    *SERVING_PHASES,
    DETECTION,
)
_CPU_BOUND_RATIO, _CPU_BOUND_LEVEL = 0.03, 0.99


class Clock(Enum):
    """The clock that a ratio is measured by. Each comparison declares one."""

    WALL = "wall"  # wall time at the cell's own threads
    CPU = "cpu"  # CPU time of one thread with child processes; the least noisy
    ONE_THREAD_WALL = "one_thread_wall"  # wall time of the same rounds as CPU

    @property
    def phrase(self) -> str:
        """Return the name of the clock for sentences."""
        return {"wall": "wall time", "cpu": "CPU time of one thread", "one_thread_wall": "wall time of one thread"}[
            self.value
        ]


def log_ratios(launches: Launches, phase: str, clock: Clock) -> list[float]:
    """Return log(candidate's time / reference's time) of each launch that measured the phase.

    Raises KeyError for a phase that is not in PHASES.
    """
    if phase not in PHASES:
        raise KeyError(phase)
    ratios = [_log_ratio(launch, phase, clock) for launch in launches]
    return [value for value in ratios if value is not None]


def halves(launches: Launches, phase: str, clock: Clock) -> list[tuple[float, float]]:
    """Return the log ratios of the first and second half of each launch's rounds; equal in a steady state."""
    pairs = []
    for launch in launches:
        candidate_s, reference_s = (_times(launch, phase, clock, side) for side in _SIDES)
        middle = min(len(candidate_s), len(reference_s)) // 2
        if middle:
            first, second = slice(0, middle), slice(middle, None)
            pairs.append(
                (
                    launch_log_ratio(candidate_s[first], reference_s[first]),
                    launch_log_ratio(candidate_s[second], reference_s[second]),
                )
            )
    return pairs


def ratio(launches: Launches, phase: str, clock: Clock, level: float = 0.95) -> Interval | None:
    """Return the speedup over the reference, above 1 is faster; None for fewer than two launches."""
    interval = mean_interval([-value for value in log_ratios(launches, phase, clock)], level)
    return interval.exp() if interval else None


def seconds(launches: Launches, phase: str, side: SideName = "candidate") -> list[float]:
    """Return the wall seconds of a cell at its own threads per launch: the median over its rounds."""
    by_launch = [_times(launch, phase, Clock.WALL, side) for launch in launches]
    return [median(times) for times in by_launch if times]


def interval_of(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the geometric mean of positive values with its interval; None for fewer than two."""
    interval = mean_interval([math.log(value) for value in values], level)
    return interval.exp() if interval else None


def memory_ratio(launches: Launches) -> Interval | None:
    """Return the ratio of peak memory, candidate over reference; device memory if they ran on a GPU.

    None if a peak is unknown or for fewer than two launches.
    """
    is_on_gpu = any(launch.device == "cuda" for launch in launches)
    key = "peak_device_bytes" if is_on_gpu else "peak_host_bytes"
    pairs = [(getattr(launch.candidate_memory, key), getattr(launch.reference_memory, key)) for launch in launches]
    if not pairs or not all(candidate and reference for candidate, reference in pairs):
        return None
    interval = mean_interval([math.log(candidate / reference) for candidate, reference in pairs])
    return interval.exp() if interval else None


def waiting(launches: Launches, phase: str) -> Interval | None:
    """Return the factor by which a cell's wall ratio exceeds its CPU ratio at one thread; 1 if it is CPU-bound.

    Both are candidate over reference in the same rounds. None for fewer than two launches. Several threads are not
    judged, because there the two ratios may differ for good reasons.
    """
    walls, cpus = (log_ratios(launches, phase, clock) for clock in (Clock.ONE_THREAD_WALL, Clock.CPU))
    interval = mean_interval([wall - cpu for wall, cpu in zip(walls, cpus, strict=True)], _CPU_BOUND_LEVEL)
    return interval.exp() if interval else None


def is_cpu_bound(launches: Launches, phase: str) -> bool | None:
    """Return whether CPU time stands for the cell's speed: wall and CPU ratio differ by up to 3 %. None if unknown."""
    interval = waiting(launches, phase)
    if interval is None:
        return None
    return interval.low <= 1 + _CPU_BOUND_RATIO and interval.high >= 1 / (1 + _CPU_BOUND_RATIO)


def thread_scaling(launches: Launches, side: SideName) -> float | None:
    """Return how many times faster a step is at the cell's own threads than at one; None if either is unknown."""
    pairs = [
        (_times(launch, "decode", Clock.ONE_THREAD_WALL, side), _times(launch, "decode", Clock.WALL, side))
        for launch in launches
        if launch.one_thread is not None
    ]
    logs = [math.log(median(one_s) / median(own_s)) for one_s, own_s in pairs if one_s and own_s]
    return math.exp(float(np.mean(logs))) if logs else None


def recompiles(launches: Launches) -> int | None:
    """Return the number of graphs compiled within timed rounds; None if the runtime does not count them."""
    counts = [block.candidate.recompiles for launch in launches for block in launch.blocks().values()]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _log_ratio(launch: Launch, phase: str, clock: Clock) -> float | None:
    candidate_s, reference_s = (_times(launch, phase, clock, side) for side in _SIDES)
    return launch_log_ratio(candidate_s, reference_s) if candidate_s and reference_s else None


def _times(launch: Launch, phase: str, clock: Clock, side: SideName) -> list[float]:
    """Return the seconds of a phase, one per round; a percentile is one per launch."""
    if phase in SERVING_PHASES:
        served = launch.served if clock is Clock.WALL else None
        return _served_times(served.side(side), phase) if served is not None else []
    if phase == DETECTION:
        return launch.observed.side(side) if launch.observed is not None and clock is Clock.WALL else []
    name = {"long_decode": "long", "throughput": "batched"}.get(phase, "own")
    if clock is not Clock.WALL:
        # A cell with one thread has no separate rounds at one thread.
        name = "own" if launch.threads == 1 and launch.one_thread is None else "one_thread"
        if phase not in ("prefill", "decode") or launch.device != "cpu":
            return []
    block = launch.blocks().get(name)
    if block is None:
        return []
    rounds = block.side(side)
    if phase in ("request", "throughput"):
        rest_s = [sum(steps) for steps in rounds.steps_s]
        rows = block.rows(side) if phase == "throughput" else 1  # a larger batch takes longer and does more
        return [(first + rest) / rows for first, rest in zip(rounds.prefill.wall_s, rest_s, strict=True)]
    if phase.startswith("decode_p"):
        steps_s = [step for steps in rounds.steps_s for step in steps]
        return [float(np.percentile(steps_s, int(phase.removeprefix("decode_p"))))]
    times = rounds.prefill if phase == "prefill" else rounds.decode
    return times.cpu_s if clock is Clock.CPU else times.wall_s


def _served_times(slices: Sequence[ServedSlice], phase: str) -> list[float]:
    """Return the seconds of a phase under load, one per slice; a percentile is one per launch."""
    if phase == "serving_throughput":
        return [part.duration_s / part.new_tokens for part in slices]
    name = f"{phase.removeprefix('serving_').removesuffix('_p95')}_s"
    if not phase.endswith("_p95"):
        return [median(getattr(part, name)) for part in slices]
    highest = percentile([value for part in slices for value in getattr(part, name)], 95)
    return [] if highest is None else [highest]
