"""The noise of a machine and the smallest detectable change, from an A/A run: the same cell twice, interleaved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from scipy import special

from runtime_matrix.experiments.gates.axes import cpu_speedup, speedup
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.environment import environment, machine_differences, machine_facts
from runtime_matrix.experiments.records.schema import to_plain, typed
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import lag_1, mean_interval

FILE = "calibration.json"  # in `results_dir`
LAUNCHES = (4, 6, 10, 15, 20, 40)
GAPS = (0.02, 0.03, 0.05, 0.1)  # between `indifferent` and `must_find`
_POWER = 0.98  # probability of detecting a loss of `must_find`
_MOST_LAUNCHES = 1000

Ends = tuple[float, float, float]  # the estimate of an interval and its bounds


class PhaseNoise(Struct, frozen=True, kw_only=True):
    """The difference of a cell from itself in one phase. Shares: 0.04 is 4 %."""

    noise: float  # standard deviation of a launch's log ratio
    ratio: Ends
    lag_1: Ends | None = None  # autocorrelation of the launches
    drift: Ends | None = None  # the second half of a launch's rounds over the first
    smallest_change: dict[str, float] = {}  # by the number of launches
    launches_for: dict[str, int | None] = {}  # by the gap between two losses; None: 1,000 or more


class Calibration(Struct, frozen=True, kw_only=True):
    """The noise of all phases by one clock; `level` is that of one-sided bounds."""

    clock: str
    launches: int
    level: float
    phases: dict[str, PhaseNoise]


def calibrate(
    log_ratios: Mapping[str, Sequence[float]],
    clock: str,
    level: float,
    halves: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Calibration:
    """Return the noise per launch of each phase, with the smallest change and the number of launches that it implies.

    `log_ratios`: by phase, launches in their order. `halves`: by phase and launch, the log ratios of the first and the
    second half of the rounds. `lag_1` and `drift` are None if unknown.
    """
    phases = {}
    for phase, values in log_ratios.items():
        noise = float(np.std(values, ddof=1))
        interval, autocorrelation = mean_interval(values), lag_1(values)
        assert interval is not None
        drift = mean_interval([second - first for first, second in (halves or {}).get(phase, [])])
        phases[phase] = PhaseNoise(
            noise=noise,
            ratio=_ends(interval.exp()),
            lag_1=_ends(autocorrelation) if autocorrelation else None,
            drift=_ends(drift.exp()) if drift else None,
            smallest_change={str(n): smallest_change(noise, n, level) for n in LAUNCHES},
            launches_for={str(share): launches_for(noise, share, level) for share in GAPS},
        )
    launches = max(len(values) for values in log_ratios.values())
    return Calibration(clock=clock, launches=launches, level=level, phases=phases)


def _ends(interval: Interval) -> Ends:
    return interval.estimate, interval.low, interval.high


def smallest_change(noise: float, launches: int, level: float) -> float:
    """Return the smallest gap between two losses that so many launches distinguish at `level`, with a power of 98 %.

    It is the least gap between `must_find` and `indifferent`.
    """
    reach = float(special.stdtrit(launches - 1, level)) + float(special.ndtri(_POWER))
    return math.expm1(reach * noise / math.sqrt(launches))


def launches_for(noise: float, gap: float, level: float) -> int | None:
    """Return the number of launches that a gap needs; None if 1,000 are not enough."""
    return next((n for n in range(3, _MOST_LAUNCHES) if smallest_change(noise, n, level) <= gap), None)


def write_calibration(clocks: Mapping[str, Calibration], results: Path) -> Path:
    """Write the calibrations by clock into the results folder and return the file's path."""
    local_environment = environment()
    path = results / FILE
    content = {"schema_version": 2, **machine_facts(local_environment), "clocks": to_plain(clocks)}
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def warnings(results: Path, gate: GateConfig) -> list[str]:
    """Return a line for each speed limit that this machine's noise makes inconclusive; none without a calibration."""
    try:
        content = json.loads((results / FILE).read_text(encoding="utf-8"))
        if machine_differences(content, environment()):
            return []
        calibrations = typed(content["clocks"], dict[str, Calibration])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    noises = [
        (f"{phase}, {calibration.clock}", calibration.phases[phase].noise, calibration.level)
        for clock, phases in (("wall", gate[speedup.REFERENCE]), ("cpu", gate[cpu_speedup.REFERENCE]))
        if (calibration := calibrations.get(clock)) is not None
        for phase in phases
        if phase in calibration.phases
    ]
    lines, count = [], gate.interim_launches[-1]
    gap = (1 + gate.must_find) / (1 + gate.indifferent) - 1
    for name, noise, level in noises:
        resolution = smallest_change(noise, count, level)
        if resolution > gap:
            lines.append(
                f"{name}: with this machine's noise of {100 * noise:.1f} % per launch, {count} launches distinguish "
                f"losses {100 * resolution:.1f} % apart, but not {100 * gate.indifferent:g} % from "
                f"{100 * gate.must_find:g} %: expect inconclusive, or widen gate.must_find"
            )
    return lines


def calibration_lines(calibration: Calibration) -> list[str]:
    """Return a calibration as lines of text."""
    bounds = f"one-sided bounds of {100 * calibration.level:g} %"
    lines = [f"A/A, {calibration.launches} launches, {calibration.clock} ({bounds})"]
    for phase, noise in calibration.phases.items():
        estimate, low, high = noise.ratio
        changes = ", ".join(f"{n}: {100 * share:.1f} %" for n, share in noise.smallest_change.items())
        needed = ", ".join(f"{100 * float(gap):g} %: {n or 'over 1,000'}" for gap, n in noise.launches_for.items())
        lines.append(f"{phase}: itself at {estimate:.4f}× [{low:.4f}, {high:.4f}], noise {100 * noise.noise:.2f} %")
        if noise.lag_1:
            estimate, low, high = noise.lag_1
            lines.append(
                f"  lag-1 autocorrelation of the launches {estimate:.2f} [{low:.2f}, {high:.2f}]{_follows(low)}"
            )
        if noise.drift:
            estimate, low, high = noise.drift
            remark = "" if low <= 1 <= high else ": rounds are not yet steady, raise comparison.warmup"
            lines.append(f"  second half of the rounds over the first {estimate:.4f}× [{low:.4f}, {high:.4f}]{remark}")
        lines.append(f"  smallest detectable difference by launches          {changes}")
        lines.append(f"  launches that a difference needs                    {needed}")
    return lines


def _follows(low: float) -> str:
    return ": launches are correlated, and the intervals are too narrow" if low > 0 else ""
