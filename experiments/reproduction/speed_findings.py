"""Whether recorded and new launches show the same speed and the same memory, relative to the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.records.ratios import Clock, log_ratios
from runtime_matrix.experiments.statistics.paired import difference_of_means

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
PHASES = ("decode", "prefill")
LEVEL = 0.99
_SAME = math.log(1.02)  # a difference that gates call indifferent
_SAME_MEMORY = math.log(1.05)  # peaks of equal processes differ by a few percent
_BUSY = 0.15  # share of the CPU time that other processes used: speeds beside a load differ from those without
_WIDEST = math.log(1.25)  # an interval of the difference that says nothing


@dataclass(frozen=True)
class Finding:
    """One figure, as recorded and now."""

    name: str
    verdict: Verdict
    text: str
    is_needed: bool = True  # without it the record is not reproduced; others only refute
    change: str = ""  # how much it differs


def speed_findings(recorded: Sequence[Launch], measured: Sequence[Launch]) -> list[Finding]:
    """Compare the speedups by Welch's interval over the launches' log ratios; all intervals hold together at 99 %."""
    known = {phase: (_speedups(recorded, phase), _speedups(measured, phase)) for phase in PHASES}
    tested = {phase: logs for phase, logs in known.items() if min(map(len, logs)) >= 2}
    level = 1 - (1 - LEVEL) / max(1, len(tested))
    load = _load(measured)
    return [_finding(phase, *logs, level, _SAME, phase == "decode", load) for phase, logs in tested.items()]


def memory_finding(recorded: Sequence[Launch], measured: Sequence[Launch]) -> Finding | None:
    """Compare the ratios of peak memory; None if they are unknown."""
    old, new = _memory(recorded), _memory(measured)
    return _finding("memory", old, new, LEVEL, _SAME_MEMORY, False) if min(len(old), len(new)) >= 2 else None


def _finding(
    name: str,
    recorded: Sequence[float],
    measured: Sequence[float],
    level: float,
    same: float,
    is_needed: bool,
    load: float | None = None,
) -> Finding:
    interval = difference_of_means(measured, recorded, level)
    assert interval is not None
    verdict: Verdict = "reproduced"
    if interval.low > same or interval.high < -same:
        verdict = "not reproduced" if load is None else "inconclusive"
    elif interval.high - interval.low > _WIDEST:
        verdict = "inconclusive"
    old, new = (math.exp(sum(logs) / len(logs)) for logs in (recorded, measured))
    change = interval.exp()
    text = (
        f"recorded {old:.3f}× of the reference, now {new:.3f}×: a change of {change.estimate:.3f}× "
        f"[{change.low:.3f}, {change.high:.3f}]"
    )
    if load is not None:
        text += f"; other processes used {100 * load:.0f} % of the CPU time"
    return Finding(name, verdict, text, is_needed, f"{change.estimate:.3f}×")


def _load(launches: Sequence[Launch]) -> float | None:
    """Return the share of the CPU time that other processes used, if it is too high to refute a speed."""
    shares = [share for launch in launches if (share := launch.machine.others_ratio) is not None]
    return median(shares) if shares and median(shares) > _BUSY else None


def _speedups(launches: Sequence[Launch], phase: str) -> list[float]:
    return [-value for value in log_ratios(launches, phase, Clock.WALL)]


def _memory(launches: Sequence[Launch]) -> list[float]:
    key = "peak_device_bytes" if any(launch.device == "cuda" for launch in launches) else "peak_host_bytes"
    pairs = [(getattr(launch.candidate_memory, key), getattr(launch.reference_memory, key)) for launch in launches]
    return [math.log(candidate / reference) for candidate, reference in pairs if candidate and reference]
