"""Limits on speed: time ratios to the reference, of this run or of a baseline."""

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
    """A limit on the ratio of two times. `expected` is the log of the least speedup; NaN if the baseline has none."""

    name: str
    phase: str
    clock: Clock
    expected: float
    rule: Rule
    interval: Callable[[Sequence[float], float], Interval | None]
    part: Part = "reference"

    def applies(self, launches: Sequence[Launch]) -> bool:
        """Return whether these launches can decide the limit: CPU time is no measure of a GPU's speed."""
        return self.clock is not Clock.CPU or not launches or launches[0].device == "cpu"

    def is_decided(self, launches: Sequence[Launch]) -> bool:
        """Return whether the limit has a verdict, or does not apply."""
        return not self.applies(launches) or self.look(launches).verdict != "inconclusive"

    def look(self, launches: Sequence[Launch]) -> Look:
        """Return the interim analysis of these launches."""
        return look(losses(launches, self.phase, self.clock_of(launches), self.expected), self.rule, self.interval)

    def clock_of(self, launches: Sequence[Launch]) -> Clock:
        """Return the clock of the verdict: wall time of the same rounds if the cell is not bound by CPU time."""
        if self.clock is Clock.CPU and is_cpu_bound(launches, self.phase) is False:
            return Clock.ONE_THREAD_WALL
        return self.clock


def apart(earlier: Sequence[float], expected: float) -> Callable[[Sequence[float], float], Interval | None]:
    """Return the interval function of losses against the baseline's launches, which have noise of their own."""
    return lambda losses, level: difference_of_means(losses, [value + expected for value in earlier], level)


def losses(launches: Sequence[Launch], phase: str, clock: Clock, expected: float) -> list[float]:
    """Return log(time / time at the least speedup) for each launch; above 0 is too slow."""
    return [value + expected for value in log_ratios(launches, phase, clock)]


def judge_speed(measured: Measured, limits: Sequence[SpeedLimit], gate: GateConfig) -> list[LimitResult]:
    """Return one finding per limit that applies to the cell's launches."""
    row = row_of(measured.result)
    launches = measured.launches if row["speedup_launches"] else []
    results = []
    for limit in limits:
        if not limit.applies(launches):
            continue
        if math.isnan(limit.expected):
            figures, advice = "the baseline holds no launches", "update=true measures them"
            results.append(LimitResult(measured.label, limit.name, "inconclusive", figures, advice=advice))
            continue
        results.append(_speed_finding(measured, limit, limit.look(launches), gate, row.speedup_reason, launches))
    return results


def _speed_finding(
    measured: Measured,
    limit: SpeedLimit,
    interim: Look,
    gate: GateConfig,
    missing: str | None,
    launches: Sequence[Launch],
) -> LimitResult:
    name, phase, expected = limit.name, limit.phase, limit.expected
    least, verdict = math.exp(expected), interim.verdict
    blank = LimitResult(measured.label, name, verdict, "", "× faster", limit=least, n=interim.launches)
    if interim.loss is None:
        reason = missing or f"{interim.launches} launches, at least {gate.interim_launches[0]} are needed"
        return replace(blank, verdict="inconclusive", figures=f"{phase} was not compared: {reason}")
    value, low, high = (
        math.exp(expected - end) for end in (interim.loss.estimate, interim.loss.high, interim.loss.low)
    )
    clock = limit.clock_of(launches)
    text = f"{phase} at {value:.3f}× [{low:.3f}, {high:.3f}] of {measured.against}'s speed by {clock.phrase}"
    text += " (it is not bound by its CPU time)" if clock is not limit.clock else ""
    text += f", required {least:.3f}×, {interim.launches} launches: {_shown_loss(interim.loss, verdict, gate)}"
    advice = ""
    if verdict == "fail":
        remedy = "update=true" if limit.part == "baseline" else f"set gate.{name}={value:.2f}"
        advice = f"profile {phase}, or if it is intended: {remedy}"
    elif verdict == "inconclusive":
        advice = "a quieter machine, more gate.interim_launches or a wider gate.must_find"
    figures = text + _loose(limit, value, gate)
    return replace(blank, figures=figures, advice=advice, value=value, low=low, high=high)


def _loose(limit: SpeedLimit, value: float, gate: GateConfig) -> str:
    """Return a warning if a limit allows a loss far above its tolerance, else an empty text."""
    allowed = value / math.exp(limit.expected) - 1
    if allowed <= 2 * gate.must_find:
        return ""
    return (
        f"; this limit allows a loss of {100 * (1 - math.exp(limit.expected) / value):.0f} % of the speed: "
        f"set gate.{limit.name}={0.98 * value:.2f}, or give baseline=DIR"
    )


def _shown_loss(loss: Interval, verdict: Verdict, gate: GateConfig) -> str:
    """Return the loss in percent of time, and which of the two bounds it is shown to meet."""
    estimate, low, high = (100 * math.expm1(end) + 0.0 for end in (loss.estimate, loss.low, loss.high))
    indifferent, must_find = f"{100 * gate.indifferent:g} %", f"{100 * gate.must_find:g} %"
    text = f"{estimate:.1f} % too slow [{low:.1f}, {high:.1f}]"
    if estimate <= 0:
        text = f"{-estimate:.1f} % faster than required [{-high:.1f}, {-low:.1f}]"
    if verdict == "inconclusive":
        return f"{text}: neither shown to lose more than {indifferent} nor less than {must_find}"
    if low > 100 * gate.indifferent and high < 100 * gate.must_find:
        nearer = must_find if verdict == "fail" else indifferent
        return f"{text}: between {indifferent} and {must_find}, nearer to {nearer}"
    return f"{text}: " + (
        f"more than the indifferent {indifferent}" if verdict == "fail" else f"shown to lose less than {must_find}"
    )
