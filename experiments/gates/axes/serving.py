"""Shares of requests under load that failed or missed their objective: beside another cell's, or on their own.

Each grid point of the benchmark `serving` is judged. Times under load come from one load that was not interleaved, so
they have no limits here; an objective on them does.
"""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.statistics.shares import lower_bound, upper_bound

_BENCHMARK = "serving"
_GOOD = {"error_ratio": "completed_requests", "unmet_ratio": "met_requests"}  # figures of the requests that are fine
_TITLES = {"error_ratio": "requests without an answer", "unmet_ratio": "requests that missed the objective"}
Shares = dict[str, float]
Counts = dict[str, dict[str, tuple[int, int]]]  # by grid point and name: (requests of that kind, requests)


class KeptShares(Kept[Counts]):
    """The part of a baseline with counts of requests."""

    @override
    def make(self, result: Result, against: str | None) -> Counts:
        return counts(result.record)

    @override
    def changes(self, before: Counts, now: Counts) -> list[str]:
        return [
            f"{name} at {point} {bad} of {of} -> {now[point][name][0]} of {now[point][name][1]}"
            for point, kinds in before.items()
            for name, (bad, of) in kinds.items()
            if point in now and now[point][name] != (bad, of)
        ]


class ServingLimits(Limits[Shares]):
    """How much larger a share may be than the other's; `is_absolute`: how large it may be."""

    is_absolute = False

    @override
    def judge(self, measured: Measured, limits: Shares, gate: GateConfig, level: float) -> list[LimitResult]:
        own = counts(measured.result.record)
        others: Counts = {}
        if not self.is_absolute:
            others = counts(measured.reference.record) if self.part == "reference" else measured.kept(_KEPT)
        each = 1 - (1 - level) / max(1, len(own))  # all grid points together
        results = []
        for name, limit in limits.items():
            for point in own or ("",):
                pair, other = own.get(point, {}).get(name), others.get(point, {}).get(name)
                results.append(self._judged(measured, f"{self.name}.{name}", name, point, limit, pair, other, each))
        return results

    def _judged(
        self,
        measured: Measured,
        full: str,
        name: str,
        point: str,
        limit: float,
        pair: tuple[int, int] | None,
        other: tuple[int, int] | None,
        level: float,
    ) -> LimitResult:
        rival = measured.rival(self.part)
        if pair is None or (other is None and not self.is_absolute):
            where = "this run" if pair is None else rival
            return LimitResult(measured.label, full, "inconclusive", f"{_TITLES[name]}: unknown for {where}")
        share = _alone(pair, level) if other is None else _difference(pair, other, level)
        verdict: Verdict = "pass" if share.high <= limit else "fail" if share.low > limit else "inconclusive"
        text = f"{_TITLES[name]} at {point}: {pair[0]} of {pair[1]}"
        if other is not None:
            text += f", {other[0]} of {other[1]} of {rival}: {100 * share.estimate:+.1f} points"
        else:
            text += f": {100 * share.estimate:.1f} %"
        text += f" [{100 * share.low:.1f}, {100 * share.high:.1f}], at most {100 * limit:g}"
        advice = ""
        if verdict == "fail":
            advice = f"find the cause, or if it is intended: raise gate.{full}"
        elif verdict == "inconclusive":
            advice = "more benchmark.serving.requests, or a wider limit"
        return LimitResult(
            *(measured.label, full, verdict, text, "share", "lower"),
            *(share.estimate, share.low, share.high, limit, pair[1]),
            advice=advice,
        )

    @override
    def bounds(self, limits: Shares) -> int:
        return len(limits)

    @override
    def benchmarks(self, limits: Shares) -> Collection[str]:
        return [_BENCHMARK] if limits else []


class ServingMost(ServingLimits):
    """How large a share may be, whatever another's is."""

    is_absolute = True


def counts(record: Record) -> Counts:
    """Return the counts of each grid point that was measured."""
    found: Counts = {}
    for entry in record.benchmarks:
        requests = entry.figure("requests")
        if entry.benchmark != _BENCHMARK or entry.status != "ok" or not requests:
            continue
        good = {name: entry.figure(figure) for name, figure in _GOOD.items()}
        found[str(entry.parameters.get("load", ""))] = {
            name: (int(requests - fine), int(requests)) for name, fine in good.items() if fine is not None
        }
    return found


def _alone(pair: tuple[int, int], level: float) -> Interval:
    """Return the share with exact one-sided bounds (Clopper and Pearson)."""
    return Interval(pair[0] / pair[1], lower_bound(*pair, level), upper_bound(*pair, level), 2 * level - 1)


def _difference(pair: tuple[int, int], other: tuple[int, int], level: float) -> Interval:
    """Return the difference of two independent shares: from exact bounds of each, which share the error."""
    half = (1 + level) / 2
    own, rival = _alone(pair, half), _alone(other, half)
    return Interval(own.estimate - rival.estimate, own.low - rival.high, own.high - rival.low, 2 * level - 1)


_KEPT = KeptShares(key="serving", kind=Counts, absent=dict, place=60)
_RULE = Rule(least=0, most=1, keys=tuple(_GOOD))
REFERENCE = ServingLimits(part="reference", key="serving", kind=Shares, default={}, rule=_RULE, place=90)
MOST = ServingMost(part="reference", key="serving_at_most", kind=Shares, default={}, rule=_RULE, place=91)
BASELINE = ServingLimits(part="baseline", key="serving", kind=Shares, default={}, rule=_RULE, place=92)
AXIS = Axis(limits=(REFERENCE, MOST, BASELINE), kept=(_KEPT,), place=90)
