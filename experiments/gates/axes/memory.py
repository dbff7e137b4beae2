"""Weight bytes and peak memory, which may exceed the reference's or the baseline's by a share."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits
from runtime_matrix.experiments.gates.figures_limits import KeptFigures, advice_on_growth, judge_shares
from runtime_matrix.experiments.gates.findings import LimitResult, Measured, row_of
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import difference_of_means, mean_interval
from runtime_matrix.experiments.statistics.sequential import Verdict

_PEAK = "peak_host_bytes"  # measured by launches
_PEAKS = (_PEAK, "peak_device_bytes")
_OF_BENCHMARKS = {"detection_peak_bytes": "detection"}  # peaks of a benchmark, while it runs
_NAMES = ("weight_bytes", "weight_disk_bytes", *_PEAKS, *_OF_BENCHMARKS)
Shares = dict[str, float]
Peaks = list[float | None]


class KeptPeaks(Kept[Peaks]):
    """The part of a baseline with the peak host memory in bytes, one per launch."""

    @override
    def make(self, result: Result, against: str | None) -> Peaks:
        launches = result.speed.launches if result.speed else []
        return [launch.candidate_memory.peak_host_bytes for launch in launches]


_KEPT = KeptFigures(key="memory", names=_NAMES, place=10)
_KEPT_PEAKS = KeptPeaks(key="peaks", kind=Peaks, absent=list, place=20)


class MemoryLimits(Limits[Shares]):
    """The allowed growth by figure; `peak_host_bytes` is judged by launches, with an interval."""

    @override
    def judge(self, measured: Measured, limits: Shares, gate: GateConfig, level: float) -> list[LimitResult]:
        others = row_of(measured.reference).figures if self.part == "reference" else measured.kept(_KEPT)
        shares = {figure: share for figure, share in limits.items() if figure != _PEAK}
        results = judge_shares(measured, self, shares, others, "bytes")
        return [*results, self._judge_peak(measured, limits[_PEAK], level)] if _PEAK in limits else results

    def _judge_peak(self, measured: Measured, share: float, level: float) -> LimitResult:
        """Judge peak host memory by the interval of its log ratio over launches."""
        name, growth = f"{self.name}.{_PEAK}", self._grown(measured, level)
        if growth is None:
            return LimitResult(measured.label, name, "inconclusive", f"{_PEAK} is known for too few launches")
        value, low, high = (math.expm1(end) for end in (growth.estimate, growth.low, growth.high))
        verdict: Verdict = "pass" if high <= share else "fail" if low > share else "inconclusive"
        text = f"{_PEAK} {100 * value:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}] against "
        text += f"{measured.rival(self.part)}, at most {100 * share:g} % more"
        advice = ""
        if verdict == "fail":
            advice = advice_on_growth(self, name)
        elif verdict == "inconclusive":
            advice = "more gate.interim_launches, or a wider limit"
        return LimitResult(
            measured.label, name, verdict, text, "share more", "lower", value, low, high, share, advice=advice
        )

    def _grown(self, measured: Measured, level: float) -> Interval | None:
        if self.part == "reference":
            return mean_interval(grown_pairs(measured.launches), 2 * level - 1)
        earlier = measured.kept(_KEPT_PEAKS)
        return grown_apart(measured.launches, earlier, level)

    @override
    def benchmarks(self, limits: Shares) -> Collection[str]:
        memory = ["memory"] if any(name in limits for name in _PEAKS) else []
        return memory + [benchmark for name, benchmark in _OF_BENCHMARKS.items() if name in limits]

    @override
    def needs_launches(self, limits: Shares) -> bool:
        return _PEAK in limits

    @override
    def needs_kept_launches(self, limits: Shares) -> bool:
        return self.needs_launches(limits)


def grown_pairs(launches: Sequence[Launch]) -> list[float]:
    """Return log(the cell's peak / the reference's peak) for each launch with both."""
    pairs = [(launch.candidate_memory.peak_host_bytes, launch.reference_memory.peak_host_bytes) for launch in launches]
    return [
        math.log(candidate_peak / reference_peak)
        for candidate_peak, reference_peak in pairs
        if candidate_peak and reference_peak
    ]


def grown_apart(launches: Sequence[Launch], earlier: Sequence[float | None], level: float) -> Interval | None:
    """Return the interval of log(peak / the baseline's peak), from unpaired launches."""
    now = [peak for launch in launches if (peak := launch.candidate_memory.peak_host_bytes)]
    before = [peak for peak in earlier if peak]
    return difference_of_means([math.log(peak) for peak in now], [math.log(peak) for peak in before], 2 * level - 1)


_RULE = Rule(least=0, keys=_NAMES)
REFERENCE = MemoryLimits(part="reference", key="memory", kind=Shares, default={}, rule=_RULE, place=40)
BASELINE = MemoryLimits(part="baseline", key="memory", kind=Shares, default={}, rule=_RULE, place=50)
AXIS = Axis(limits=(REFERENCE, BASELINE), kept=(_KEPT, _KEPT_PEAKS), place=40)
