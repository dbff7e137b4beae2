"""Reads the launches of an interleaved comparison: ratios with their intervals, derived whenever they are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.measurement.paired import Interval, launch_log_ratio, mean_interval


def log_ratios(launches: Sequence[dict[str, Any]], phase: str, clock: str = "cpu_s") -> list[float]:
    """Return log(candidate's time / reference's time), one a launch."""
    return [launch_log_ratio(one["candidate"][phase][clock], one["reference"][phase][clock]) for one in launches]


def ratio(launches: Sequence[dict[str, Any]], phase: str, clock: str = "cpu_s", level: float = 0.95) -> Interval | None:
    """Return the speedup over the reference (above 1 is faster) with its interval; None for fewer than two launches."""
    interval = mean_interval([-value for value in log_ratios(launches, phase, clock)], level)
    return interval.exp() if interval else None


def memory_ratio(launches: Sequence[dict[str, Any]], key: str = "peak_host_bytes") -> Interval | None:
    """Return candidate's peak / reference's peak, of whole processes, over launches; None where it is not known."""
    pairs = [(one["candidate_memory"][key], one["reference_memory"][key]) for one in launches]
    if not all(mine and theirs for mine, theirs in pairs):
        return None
    interval = mean_interval([math.log(mine / theirs) for mine, theirs in pairs])
    return interval.exp() if interval else None
