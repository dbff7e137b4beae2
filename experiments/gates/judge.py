"""Verdicts: each limit of a gate on what a cell measured. Numbers in, findings out; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.comparison.answers import Scored
from experiments.gates.baseline import Baseline, accuracy, baseline_scores, clock_of, counts
from experiments.gates.limits import GateConfig
from experiments.measurement.interval import Interval
from experiments.measurement.paired import difference_of_means, items_needed, loss, mean_interval
from experiments.measurement.sequential import Look, Rule, Verdict, look
from experiments.records.matrix import rows
from experiments.records.speed import log_ratios

Launches = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """One limit's verdict. `value` and its bounds are in `unit`; `limit` is the bound that must hold."""

    cell: str
    name: str  # as in the configuration: reference.speedup.decode
    verdict: Verdict
    message: str  # the figures in one line, and what to do unless it passed
    unit: str = ""
    better: str = "higher"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a run left of one cell that is judged, and of its reference."""

    label: str
    record: dict[str, Any]  # with `speed` attached
    folder: Path
    reference_record: dict[str, Any]
    reference_folder: Path
    baseline: Baseline | None

    @property
    def against(self) -> str:
        return str(self.reference_record["runtime"]["name"])


def findings(one: Measured, gate: GateConfig, level: float) -> list[Finding]:
    """Return a finding a limit. UserError where the baseline holds other items."""
    if one.record["status"] != "ok":
        return [_not_measured(one)]
    found = [*_speed(one, gate, level), *_accuracy(one, gate.reference.accuracy, "reference", level)]
    found += _shares(one, "reference.memory", gate.reference.memory, _figures(one.reference_record), one.against)
    if one.baseline is not None:
        memory, load = one.baseline["memory"], one.baseline["load"]
        found += _shares(one, "baseline.memory", gate.baseline.memory, memory, "the baseline")
        found += _shares(one, "baseline.load", gate.baseline.load, load, "the baseline")
        found += _accuracy(one, gate.baseline.accuracy, "baseline", level)
        found += _counts(one, gate.baseline.counts)
    return found


def overall(found: Sequence[Finding]) -> Verdict:
    """Return the gate's verdict: nothing judged is not a pass."""
    verdicts = {finding.verdict for finding in found}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def speed_rules(
    gate: GateConfig, baseline: Baseline | None, level: float
) -> list[tuple[str, str, float, Rule, Callable[[Sequence[float], float], Interval | None]]]:
    """Return (limit's name, phase, log of the least speedup, rule, interval of the loss) of each speed limit."""
    rule = Rule(math.log1p(gate.indifferent), math.log1p(gate.must_find), gate.looks, level)
    rules: list[Any] = []
    for phase, least in gate.reference.speedup.items():
        rules.append((f"reference.speedup.{phase}", phase, math.log(least), rule, mean_interval))
    for phase in gate.baseline.speedup if baseline is not None else ():
        assert baseline is not None
        earlier = baseline["speed"]["log_ratios"][phase]
        expected = -sum(earlier) / len(earlier) if earlier else math.nan
        interval = _against(earlier, expected)
        rules.append((f"baseline.speedup.{phase}", phase, expected, rule, interval))
    return rules


def _against(earlier: Sequence[float], expected: float) -> Callable[[Sequence[float], float], Interval | None]:
    """Losses are log ratios + `expected`; the baseline's own launches vary as these do."""
    return lambda losses, level: difference_of_means(losses, [value + expected for value in earlier], level)


def losses(launches: Launches, phase: str, clock: str, expected: float) -> list[float]:
    """Return, a launch, log(time over the time at the least speedup): above 0 is too slow."""
    return [value + expected for value in log_ratios(list(map(dict, launches)), phase, clock)]


def _speed(one: Measured, gate: GateConfig, level: float) -> list[Finding]:
    stored = one.record.get("speed") or {}
    launches, clock = stored.get("launches", []), clock_of(one.record)
    found = []
    for name, phase, expected, rule, interval in speed_rules(gate, one.baseline, level):
        if math.isnan(expected):
            message = "the baseline holds no launches; update=true measures them"
            found.append(Finding(one.label, name, "inconclusive", message))
            continue
        seen = look(losses(launches, phase, clock, expected), rule, interval)
        found.append(_speed_finding(one, name, phase, expected, seen, gate, stored))
    return found


def _speed_finding(
    one: Measured,
    name: str,
    phase: str,
    expected: float,
    seen: Look,
    gate: GateConfig,
    stored: Mapping[str, Any],
) -> Finding:
    least, verdict = math.exp(expected), seen.verdict
    blank = Finding(one.label, name, verdict, "", "× faster", limit=least, n=seen.launches)
    if seen.loss is None:
        reason = stored.get("reason") or f"{seen.launches} launches, the first look is after {gate.looks[0]}"
        return replace(blank, verdict="inconclusive", message=f"{phase} was not compared: {reason}")
    value, low, high = (math.exp(expected - end) for end in (seen.loss.estimate, seen.loss.high, seen.loss.low))
    said = f"{phase} at {value:.3f}× [{low:.3f}, {high:.3f}] of {one.against}'s speed, wanted {least:.3f}×"
    said += f", {seen.launches} launches: {_shown_loss(seen.loss, verdict, gate)}"
    if verdict == "fail":
        said += f"; profile {phase}, or if it is meant "
        said += "update=true" if name.startswith("baseline") else f"set gate.{name}={value:.2f}"
    elif verdict == "inconclusive":
        said += "; a quieter machine, more gate.looks or a wider gate.must_find"
    return replace(blank, message=said, value=value, low=low, high=high)


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


def _accuracy(one: Measured, margins: Mapping[str, float], against: str, level: float) -> list[Finding]:
    mine = accuracy(one.record, one.folder)
    theirs = accuracy(one.reference_record, one.reference_folder) if against == "reference" else {}
    found = []
    for benchmark, margin in margins.items():
        name = f"{against}.accuracy.{benchmark}"
        if benchmark not in mine or (against == "reference" and benchmark not in theirs):
            why = _why_missing(one.record, benchmark)
            found.append(Finding(one.label, name, "inconclusive", f"{benchmark} was not measured: {why}"))
            continue
        ours = mine[benchmark]
        if one.baseline is not None and against == "baseline":
            other = baseline_scores(one.baseline, benchmark, ours)
        else:
            other = theirs[benchmark]
        found.append(_accuracy_finding(one, name, benchmark, margin, ours, other, level))
    return found


def _accuracy_finding(
    one: Measured, name: str, benchmark: str, margin: float, mine: Scored, theirs: Scored, level: float
) -> Finding:
    """Judge by the score alone. The right choice's probability falls less than accuracy, which is lost by near ties:
    it is told where the score is inconclusive, and decides nothing.
    """
    is_share, two_sided = benchmark != "perplexity", 2 * level - 1
    scale, unit = (100, "points") if is_share else (1, "nats a token")
    seen = loss(mine.scores, theirs.scores, mine.clusters, two_sided, is_share)
    verdict = loss_verdict(seen, margin)
    blank = Finding(one.label, name, verdict, "", unit, "lower", limit=margin * scale, n=len(mine.ids))
    if seen is None:
        return replace(blank, message=f"{benchmark} has {len(mine.ids)} items: too few for an interval")
    value, low, high = (scale * end + 0.0 for end in (seen.estimate, seen.low, seen.high))  # never "-0"
    said = f"{benchmark} loses {value:.3g} {unit} [{low:.3g}, {high:.3g}], margin {margin * scale:g}, "
    said += f"{len(mine.ids)} items"
    if verdict == "fail":
        said += f": see the items in {one.folder}/items-{benchmark}.jsonl; more bits or another runtime, or a margin"
    elif verdict == "inconclusive":
        needed = items_needed(mine.scores, theirs.scores, mine.clusters, two_sided, is_share, margin)
        said += f": {_what_would_tell(needed)}{_of_probability(mine, theirs)}"
    return replace(blank, message=said, value=value, low=low, high=high)


def loss_verdict(seen: Interval | None, margin: float) -> Verdict:
    """Non-inferiority: pass when the bound is under the margin; fail when the loss is real and above it."""
    if seen is None:
        return "inconclusive"
    if seen.high < margin or (margin == 0 and seen.high <= 0):
        return "pass"
    return "fail" if seen.low > 0 and seen.estimate > margin else "inconclusive"


def _what_would_tell(items: int | None) -> str:
    if items is None:
        return "the loss may be above the margin; more items would tell"
    return f"about {items:,} items like these would tell, or a wider margin"


def _of_probability(mine: Scored, theirs: Scored) -> str:
    if not mine.probabilities or not theirs.probabilities:
        return ""
    lost = (sum(theirs.probabilities) - sum(mine.probabilities)) / len(mine.ids)
    return f" (the right choice's probability fell by {100 * lost + 0.0:.3g} points)"


def _shares(
    one: Measured, name: str, limits: Mapping[str, float], theirs: Mapping[str, Any], against: str
) -> list[Finding]:
    """Judge figures that may exceed another's by a share. What neither knows is not judged."""
    mine, found = _figures(one.record), []
    for figure, share in limits.items():
        value, other = mine[figure], theirs.get(figure)
        if value is None and other is None:
            continue
        full, unit = f"{name}.{figure}", "s" if figure.endswith("_s") else "bytes"
        if value is None or other is None:
            where = against if value is not None else "this run"
            found.append(Finding(one.label, full, "inconclusive", f"{figure} is not known of {where}"))
            continue
        is_over = value > other * (1 + share)
        said = (
            f"{figure} {_shown(value, unit)} against {_shown(other, unit)} of {against}, at most {100 * share:g} % more"
        )
        if is_over:
            grown = f"{100 * (value / other - 1):.1f} %" if other else "from nothing"
            said += f": grew {grown}; find what grew, or if it is meant " + (
                "update=true" if name.startswith("baseline") else f"raise gate.{full}"
            )
        verdict: Verdict = "fail" if is_over else "pass"
        bound = other * (1 + share)
        found.append(Finding(one.label, full, verdict, said, unit, "lower", value, limit=bound, n=1))
    return found


def _counts(one: Measured, names: Sequence[str]) -> list[Finding]:
    assert one.baseline is not None
    mine, theirs, found = counts(one.record), one.baseline["counts"], []
    for name in names:
        value, other = mine[name], theirs.get(name)
        if value is None and other is None:
            continue
        full = f"baseline.counts.{name}"
        if value is None or other is None:
            found.append(Finding(one.label, full, "inconclusive", f"{name} {value}, the baseline {other}: not counted"))
            continue
        is_worse = value != other if name == "tokens" else value > other
        said = f"{name} {value:,}, the baseline {other:,}"
        if is_worse:
            said += ": an exact count that changed; find the cause, or if it is meant update=true"
        found.append(
            Finding(one.label, full, "fail" if is_worse else "pass", said, "count", "lower", value, limit=other, n=1)
        )
    return found


def _not_measured(one: Measured) -> Finding:
    status, reason = one.record["status"], one.record["reason"]
    verdict: Verdict = "inconclusive" if status in ("unsupported", "interrupted") else "fail"
    message = f"not measured: {status}: {reason}; see {one.folder}/output.log"
    return Finding(one.label, "cell", verdict, message)


def _why_missing(record: Mapping[str, Any], benchmark: str) -> str:
    for entry in record["benchmarks"]:
        if entry["benchmark"] == benchmark and entry["status"] != "ok":
            return f"{entry['status']}: {entry['reason']}"
    return f"not asked for; add it to benchmark=[…] or take it out of the gate ({benchmark})"


def _figures(record: Mapping[str, Any]) -> dict[str, Any]:
    (row,) = rows([dict(record)])
    return row


def _shown(value: float, unit: str) -> str:
    return f"{value:.2f} s" if unit == "s" else f"{value / 2**20:,.2f} MiB"
