"""What a machine can tell apart, from an A/A run: the same cell twice, interleaved."""

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
GAPS = (0.02, 0.03, 0.05, 0.1)  # between what is indifferent and what must be found
_POWER = 0.98  # with which a loss that must be found is found
_MOST_LAUNCHES = 1000

Ends = tuple[float, float, float]  # the estimate of an interval and its bounds


class PhaseNoise(Struct, frozen=True, kw_only=True):
    """How a cell differs from itself in one phase. Shares: 0.04 is 4 %."""

    noise: float  # standard deviation of a launch's log ratio
    ratio: Ends
    lag_1: Ends | None = None  # autocorrelation of the launches
    drift: Ends | None = None  # the second half of a launch's rounds over the first
    smallest_change: dict[str, float] = {}  # that is told apart, by the number of launches
    launches_for: dict[str, int | None] = {}  # by the gap between two losses; None: more than a thousand


class Calibration(Struct, frozen=True, kw_only=True):
    """The noise by one clock."""

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
    """Return, by phase, the noise per launch and what follows from it.

    `log_ratios` has a phase's launches in their order; `halves` the log ratios of the first and of the second half of
    each launch's rounds. What `lag_1` and `drift` say is None where it is not known.
    """
    phases = {}
    for phase, values in log_ratios.items():
        noise = float(np.std(values, ddof=1))
        interval, follows = mean_interval(values), lag_1(values)
        assert interval is not None
        drift = mean_interval([second - first for first, second in (halves or {}).get(phase, [])])
        phases[phase] = PhaseNoise(
            noise=noise,
            ratio=_ends(interval.exp()),
            lag_1=_ends(follows) if follows else None,
            drift=_ends(drift.exp()) if drift else None,
            smallest_change={str(n): smallest_change(noise, n, level) for n in LAUNCHES},
            launches_for={str(share): launches_for(noise, share, level) for share in GAPS},
        )
    launches = max(len(values) for values in log_ratios.values())
    return Calibration(clock=clock, launches=launches, level=level, phases=phases)


def _ends(interval: Interval) -> Ends:
    return interval.estimate, interval.low, interval.high


def smallest_change(noise: float, launches: int, level: float) -> float:
    """Return the smallest gap between two losses that so many launches tell apart, nearly always: bound and power.

    It is what `must_find` must exceed `indifferent` by.
    """
    reach = float(special.stdtrit(launches - 1, level)) + float(special.ndtri(_POWER))
    return math.expm1(reach * noise / math.sqrt(launches))


def launches_for(noise: float, gap: float, level: float) -> int | None:
    """Return how many launches a gap needs; None when not even a thousand are enough."""
    return next((n for n in range(3, _MOST_LAUNCHES) if smallest_change(noise, n, level) <= gap), None)


def write_calibration(clocks: Mapping[str, Calibration], results: Path) -> Path:
    """Write what `calibrate` found by each clock; return the file."""
    here = environment()
    path = results / FILE
    content = {"schema_version": 2, **machine_facts(here), "clocks": to_plain(clocks)}
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def warnings(results: Path, gate: GateConfig) -> list[str]:
    """Return what the machine's calibration, where there is one, says of a gate's two bounds of speed."""
    try:
        kept = json.loads((results / FILE).read_text(encoding="utf-8"))
        if machine_differences(kept, environment()):
            return []
        calibrations = typed(kept["clocks"], dict[str, Calibration])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    noises = [
        (f"{phase}, {calibration.clock}", calibration.phases[phase].noise, calibration.level)
        for clock, phases in (("wall", gate[speedup.REFERENCE]), ("cpu", gate[cpu_speedup.REFERENCE]))
        if (calibration := calibrations.get(clock)) is not None
        for phase in phases
        if phase in calibration.phases
    ]
    said, count = [], gate.interim_launches[-1]
    gap = (1 + gate.must_find) / (1 + gate.indifferent) - 1
    for name, noise, level in noises:
        able = smallest_change(noise, count, level)
        if able > gap:
            said.append(
                f"{name}: this machine's noise of {100 * noise:.1f} % per launch lets {count} launches tell losses "
                f"apart that lie {100 * able:.1f} % from each other, not {100 * gate.indifferent:g} % and "
                f"{100 * gate.must_find:g} %: expect inconclusive, or widen gate.must_find"
            )
    return said


def calibration_lines(calibration: Calibration) -> list[str]:
    """Say in words what a calibration found."""
    bounds = f"one-sided bounds of {100 * calibration.level:g} %"
    made = [f"A/A, {calibration.launches} launches, {calibration.clock} ({bounds})"]
    for phase, noise in calibration.phases.items():
        estimate, low, high = noise.ratio
        changes = ", ".join(f"{n}: {100 * share:.1f} %" for n, share in noise.smallest_change.items())
        needed = ", ".join(f"{100 * float(gap):g} %: {n or 'over 1,000'}" for gap, n in noise.launches_for.items())
        made.append(f"{phase}: itself at {estimate:.4f}× [{low:.4f}, {high:.4f}], noise {100 * noise.noise:.2f} %")
        if noise.lag_1:
            estimate, low, high = noise.lag_1
            made.append(
                f"  lag-1 autocorrelation of the launches {estimate:.2f} [{low:.2f}, {high:.2f}]{_follows(low)}"
            )
        if noise.drift:
            estimate, low, high = noise.drift
            said = "" if low <= 1 <= high else ": rounds are not yet steady, raise comparison.warmup"
            made.append(f"  second half of the rounds over the first {estimate:.4f}× [{low:.4f}, {high:.4f}]{said}")
        made.append(f"  smallest difference told apart by so many launches  {changes}")
        made.append(f"  launches that a difference needs                    {needed}")
    return made


def _follows(low: float) -> str:
    return ": launches follow one another, and the intervals are too narrow" if low > 0 else ""
