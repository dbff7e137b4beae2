"""What a machine can tell apart, from an A/A run: the same cell twice, interleaved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from experiments.gates.limits import GateConfig
from experiments.measurement.paired import mean_interval
from experiments.records.environment import environment, machine_differences, machine_facts
from experiments.records.speed import log_ratios
from experiments.records.store import write_atomic

FILE = "calibration.json"  # in `results_dir`
LAUNCHES = (4, 6, 10, 15, 20, 40)
TOLERANCES = (0.02, 0.04, 0.05, 0.1)
_POWER = 0.98  # with which a loss of the smallest change is found
_MOST_LAUNCHES = 1000


def calibrate(launches: Sequence[dict[str, Any]], clock: str, level: float) -> dict[str, Any]:
    """Return, by phase, the noise a launch and what follows from it. Shares: 0.04 is 4 %."""
    found = {}
    for phase in ("decode", "prefill"):
        values = log_ratios(list(launches), phase, clock)
        noise = float(np.std(values, ddof=1))
        interval = mean_interval(values)
        assert interval is not None
        found[phase] = {
            "noise": noise,
            "ratio": [math.exp(end) for end in (interval.estimate, interval.low, interval.high)],
            "smallest_change": {str(n): smallest_change(noise, n, level) for n in LAUNCHES},
            "launches_for": {str(share): launches_for(noise, share, level) for share in TOLERANCES},
        }
    return {"clock": clock, "launches": len(launches), "level": level, "phases": found}


def smallest_change(noise: float, launches: int, level: float) -> float:
    """Return the smallest slowdown that so many launches tell from none, nearly always: bound and power together."""
    reach = float(special.stdtrit(launches - 1, level)) + float(special.ndtri(_POWER))
    return math.expm1(reach * noise / math.sqrt(launches))


def launches_for(noise: float, tolerance: float, level: float) -> int | None:
    """Return how many launches a tolerance needs; None when not even a thousand are enough."""
    return next((n for n in range(3, _MOST_LAUNCHES) if smallest_change(noise, n, level) <= tolerance), None)


def write_calibration(found: Mapping[str, Any], results: Path) -> Path:
    here = environment()
    path = results / FILE
    content = {"schema_version": 1, **machine_facts(here), **found}
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def warnings(results: Path, gate: GateConfig) -> list[str]:
    """Return what the machine's calibration, where there is one, says of a gate's tolerance."""
    try:
        kept = json.loads((results / FILE).read_text())
        here = environment()
        if machine_differences(kept, here):
            return []
        noises = {phase: kept["phases"][phase]["noise"] for phase in gate.reference.speedup}
        level = kept["level"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    said = []
    for phase, noise in noises.items():
        able = smallest_change(noise, gate.looks[-1], level)
        if able > gate.speed_tolerance:
            said.append(
                f"{phase}: this machine's noise of {100 * noise:.1f} % a launch lets {gate.looks[-1]} launches see "
                f"{100 * able:.1f} %, not {100 * gate.speed_tolerance:g} %: expect inconclusive"
            )
    return said
