"""Limits on speed: ratios of times to a reference, of this run or of a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime_matrix.experiments.gates.axis import Part
from runtime_matrix.experiments.gates.findings import LimitResult, Measured, row_of
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.records.ratios import Clock, is_cpu_bound, log_ratios
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import difference_of_means
from runtime_matrix.experiments.statistics.sequential import Look, Rule, Verdict, look


@dataclass(frozen=True)
class SpeedLimit:
    """A limit on the ratio of two times. `expected` is the log of the least speedup; NaN where a baseline has none."""

    name: str
    phase: str
    clock: Clock
    expected: float
    rule: Rule
    interval: Callable[[Sequence[float], float], Interval | None]
    part: Part = "reference"

    def applies(self, launches: Sequence[Launch]) -> bool:
        """Say whether the limit can be judged by these launches: of a GPU's speed the host's CPU time says nothing."""
        return self.clock is not Clock.CPU or not launches or launches[0].device == "cpu"

    def is_decided(self, launches: Sequence[Launch]) -> bool:
        return not self.applies(launches) or self.look(launches).verdict != "inconclusive"

    def look(self, launches: Sequence[Launch]) -> Look:
        return look(losses(launches, self.phase, self.clock_of(launches), self.expected), self.rule, self.interval)

    def clock_of(self, launches: Sequence[Launch]) -> Clock:
        """Return the clock of the verdict: wall time of the same rounds for a cell that CPU time does not bound."""
        if self.clock is Clock.CPU and is_cpu_bound(launches, self.phase) is False:
            return Clock.ONE_THREAD_WALL
        return self.clock


def apart(earlier: Sequence[float], expected: float) -> Callable[[Sequence[float], float], Interval | None]:
    """Losses are log ratios + `expected`; the baseline's own launches vary as these do."""
    return lambda losses, level: difference_of_means(losses, [value + expected for value in earlier], level)


def losses(launches: Sequence[Launch], phase: str, clock: Clock, expected: float) -> list[float]:
    """Return, for each launch, log(time over the time at the least speedup): above 0 is too slow."""
    return [value + expected for value in log_ratios(launches, phase, clock)]


def judge_speed(measured: Measured, limits: Sequence[SpeedLimit], gate: GateConfig) -> list[LimitResult]:
    row = row_of(measured.result)
    launches = measured.launches if row["speedup_launches"] else []
    found = []
    for limit in limits:
        if not limit.applies(launches):
            continue
        if math.isnan(limit.expected):
            said, advice = "the baseline holds no launches", "update=true measures them"
            found.append(LimitResult(measured.label, limit.name, "inconclusive", said, advice=advice))
            continue
        found.append(_speed_finding(measured, limit, limit.look(launches), gate, row.speedup_reason, launches))
    return found


def _speed_finding(
    measured: Measured,
    limit: SpeedLimit,
    seen: Look,
    gate: GateConfig,
    missing: str | None,
    launches: Sequence[Launch],
) -> LimitResult:
    name, phase, expected = limit.name, limit.phase, limit.expected
    least, verdict = math.exp(expected), seen.verdict
    blank = LimitResult(measured.label, name, verdict, "", "× faster", limit=least, n=seen.launches)
    if seen.loss is None:
        reason = missing or f"{seen.launches} launches, the first look is after {gate.interim_launches[0]}"
        return replace(blank, verdict="inconclusive", figures=f"{phase} was not compared: {reason}")
    value, low, high = (math.exp(expected - end) for end in (seen.loss.estimate, seen.loss.high, seen.loss.low))
    clock = limit.clock_of(launches)
    said = f"{phase} at {value:.3f}× [{low:.3f}, {high:.3f}] of {measured.against}'s speed by {clock.said}"
    said += " (it is not bound by its CPU time)" if clock is not limit.clock else ""
    said += f", wanted {least:.3f}×, {seen.launches} launches: {_shown_loss(seen.loss, verdict, gate)}"
    advice = ""
    if verdict == "fail":
        meant = "update=true" if limit.part == "baseline" else f"set gate.{name}={value:.2f}"
        advice = f"profile {phase}, or if it is meant {meant}"
    elif verdict == "inconclusive":
        advice = "a quieter machine, more gate.interim_launches or a wider gate.must_find"
    figures = said + _loose(limit, value, gate)
    return replace(blank, figures=figures, advice=advice, value=value, low=low, high=high)


def _loose(limit: SpeedLimit, value: float, gate: GateConfig) -> str:
    """Warn where a limit lets far more speed be lost than its tolerance says."""
    allowed = value / math.exp(limit.expected) - 1
    if allowed <= 2 * gate.must_find:
        return ""
    return (
        f"; this limit lets {100 * (1 - math.exp(limit.expected) / value):.0f} % of the speed be lost: "
        f"set gate.{limit.name}={0.98 * value:.2f}, or give baseline=DIR"
    )


def _shown_loss(loss: Interval, verdict: Verdict, gate: GateConfig) -> str:
    """Say the loss in percent of time, and what was shown of it."""
    estimate, low, high = (100 * math.expm1(end) + 0.0 for end in (loss.estimate, loss.low, loss.high))
    indifferent, must_find = f"{100 * gate.indifferent:g} %", f"{100 * gate.must_find:g} %"
    said = f"{estimate:.1f} % too slow [{low:.1f}, {high:.1f}]"
    if estimate <= 0:
        said = f"{-estimate:.1f} % faster than wanted [{-high:.1f}, {-low:.1f}]"
    if verdict == "inconclusive":
        return f"{said}: neither shown to lose more than {indifferent} nor less than {must_find}"
    if low > 100 * gate.indifferent and high < 100 * gate.must_find:
        nearer = must_find if verdict == "fail" else indifferent
        return f"{said}: between {indifferent} and {must_find}, nearer to {nearer}"
    return f"{said}: " + (
        f"more than the indifferent {indifferent}" if verdict == "fail" else f"shown to lose less than {must_find}"
    )
