"""Verdicts: each limit of a gate on what a cell measured. Numbers in, findings out; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.comparison.answers import Scored
from experiments.gates.baseline import Baseline, accuracy, baseline_scores, counts
from experiments.gates.limits import GateConfig
from experiments.measurement.interval import Interval
from experiments.measurement.paired import difference_of_means, items_needed, loss, mean_interval
from experiments.measurement.sequential import Look, Rule, Verdict, look
from experiments.measurement.shares import upper_bound
from experiments.records.matrix import rows
from experiments.records.speed import Clock, is_cpu_bound, log_ratios
from experiments.records.timed_work import is_exact, problem, replay_problem, unchecked

Launches = Sequence[Mapping[str, Any]]
_CLOCKS = {"speedup": Clock.WALL, "cpu_speedup": Clock.CPU}  # by the group of limits
_PEAK = "peak_host_bytes"  # which launches measure
_LOGIT_ROUNDING = 1e-2  # a difference of logits that float32 arithmetic explains; our engines' stay below 2e-5


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
    found = [
        *_outputs(one, gate),
        *_speed(one, gate, level),
        *_accuracy(one, gate.reference.accuracy, "reference", level),
    ]
    launches = (one.record.get("speed") or {}).get("launches", [])
    found += _shares(one, "reference.memory", gate.reference.memory, _figures(one.reference_record), one.against)
    found += _peaks(one, "reference.memory", gate.reference.memory, _pairs(launches), one.against, level)
    if one.baseline is not None:
        memory, load = one.baseline["memory"], one.baseline["load"]
        found += _shares(one, "baseline.memory", gate.baseline.memory, memory, "the baseline")
        kept = _apart(launches, one.baseline.get("peaks", []), level)
        found += _peaks(one, "baseline.memory", gate.baseline.memory, kept, "the baseline", level)
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


@dataclass(frozen=True)
class SpeedLimit:
    """A limit on the ratio of two times. `expected` is the log of the least speedup; NaN where a baseline has none."""

    name: str
    phase: str
    clock: Clock
    expected: float
    rule: Rule
    interval: Callable[[Sequence[float], float], Interval | None]

    def look(self, launches: Launches) -> Look:
        return look(losses(launches, self.phase, self.clock_of(launches), self.expected), self.rule, self.interval)

    def clock_of(self, launches: Launches) -> Clock:
        """Return the clock of the verdict: wall time of the same rounds for a cell that CPU time does not bound."""
        if self.clock is Clock.CPU and is_cpu_bound(launches, self.phase) is False:
            return Clock.ONE_THREAD_WALL
        return self.clock


def speed_limits(gate: GateConfig, baseline: Baseline | None, level: float) -> list[SpeedLimit]:
    """Return the speed limits of a gate."""
    rule = Rule(math.log1p(gate.indifferent), math.log1p(gate.must_find), gate.looks, level)
    limits = [
        SpeedLimit(f"reference.{group}.{phase}", phase, clock, math.log(least), rule, mean_interval)
        for group, clock in _CLOCKS.items()
        for phase, least in getattr(gate.reference, group).items()
    ]
    for group, clock in _CLOCKS.items() if baseline is not None else ():
        for phase in getattr(gate.baseline, group):
            assert baseline is not None
            earlier = baseline["speed"]["log_ratios"][clock.value][phase]
            expected = -sum(earlier) / len(earlier) if earlier else math.nan
            name = f"baseline.{group}.{phase}"
            limits.append(SpeedLimit(name, phase, clock, expected, rule, _against(earlier, expected)))
    return limits


def _against(earlier: Sequence[float], expected: float) -> Callable[[Sequence[float], float], Interval | None]:
    """Losses are log ratios + `expected`; the baseline's own launches vary as these do."""
    return lambda losses, level: difference_of_means(losses, [value + expected for value in earlier], level)


def losses(launches: Launches, phase: str, clock: Clock, expected: float) -> list[float]:
    """Return, a launch, log(time over the time at the least speedup): above 0 is too slow."""
    return [value + expected for value in log_ratios(launches, phase, clock)]


def _outputs(one: Measured, gate: GateConfig) -> list[Finding]:
    """Judge whether what was computed is what the reference computes: where it was timed, and before any timing."""
    checks = {"timed_work": _timed_work, "replay": _replay, "agreement": _agreement}
    return [checks[name](one, gate) for name in gate.reference.outputs]


def _timed_work(one: Measured, gate: GateConfig) -> Finding:
    speed, figures = one.record.get("speed") or {}, _agreement_figures(one)
    blank = Finding(one.label, "reference.outputs.timed_work", "inconclusive", "")
    launches = speed.get("launches", [])
    if not launches:
        why = speed.get("reason") or "no launches: a limit on speed makes them"
        return replace(blank, message=f"the timed work was not checked: {why}")
    wrong, left_open = problem(speed, figures), unchecked(speed, figures)
    if wrong is not None:
        return replace(blank, verdict="fail", message=f"{wrong.status}: {wrong.reason}", n=len(launches))
    if left_open is not None:
        return replace(blank, message=left_open)
    counts = [launch["tokens"] for launch in launches]
    tokens, rows, same = (sum(count[name] for count in counts) for name in ("tokens", "rows", "same_rows"))
    said = (
        f"{tokens:,} timed tokens checked, {same:,} of {rows:,} texts are {one.against}'s, nothing between the rounds"
    )
    return replace(blank, verdict="pass", message=said, n=len(launches))


def _replay(one: Measured, gate: GateConfig) -> Finding:
    blank, replayed = Finding(one.label, "reference.outputs.replay", "inconclusive", ""), one.record.get("replay")
    if not replayed:
        return replace(blank, message="nothing was replayed: it needs latency in benchmark=[…] and agreement.enabled")
    wrong = replay_problem(replayed, _computes_the_same(one), _agreement_figures(one))
    if wrong is not None:
        return replace(blank, verdict="fail", message=f"replayed under {one.against}: {wrong}")
    said = f"{replayed['same_top_tokens']} of {replayed['tokens']} replayed tokens are {one.against}'s choice"
    return replace(blank, verdict="pass", message=said)


def _agreement(one: Measured, gate: GateConfig) -> Finding:
    blank, figures = Finding(one.label, "reference.outputs.agreement", "inconclusive", ""), _agreement_figures(one)
    if not figures:
        return replace(blank, message="agreement was not measured: set agreement.enabled=true")
    same, difference = figures["same_top_ratio"], figures["max_logit_difference"]
    said = f"{100 * same:.1f} % of the top tokens are {one.against}'s, logits differ by {difference:.2g} at most"
    if _computes_the_same(one):
        verdict: Verdict = "pass" if difference <= _LOGIT_ROUNDING else "fail"
        said += f", {_LOGIT_ROUNDING:g} explained by rounding" if verdict == "fail" else ""
        return replace(blank, verdict=verdict, message=said)
    tokens, top = figures.get("continuation_tokens"), figures.get("continuation_same_top")
    if not tokens:
        return replace(blank, message=f"{said}; too few positions to judge by")
    share, least = top / tokens, gate.reference.same_top
    is_short = upper_bound(top, tokens, gate.level(1, False)) < least
    verdict = "pass" if share >= least else "fail" if is_short else "inconclusive"
    said += f"; {100 * share:.1f} % of {tokens} tokens of its texts, at least {100 * least:g} % wanted"
    return replace(blank, verdict=verdict, message=said, n=tokens)


def _computes_the_same(one: Measured) -> bool:
    return is_exact(one.record["config"]["runtime"], one.reference_record["config"]["runtime"])


def _agreement_figures(one: Measured) -> Mapping[str, Any]:
    entries = [entry for entry in one.record["benchmarks"] if entry["benchmark"] == "agreement"]
    figures: Mapping[str, Any] = entries[0]["figures"] if entries and entries[0]["status"] == "ok" else {}
    return figures


def _speed(one: Measured, gate: GateConfig, level: float) -> list[Finding]:
    stored, row = one.record.get("speed") or {}, _figures(one.record)
    launches = stored.get("launches", []) if row["speedup_launches"] else []
    found = []
    for limit in speed_limits(gate, one.baseline, level):
        if limit.clock is Clock.CPU and launches and launches[0]["device"] != "cpu":
            continue  # the host's time says nothing of a GPU's
        if math.isnan(limit.expected):
            message = "the baseline holds no launches; update=true measures them"
            found.append(Finding(one.label, limit.name, "inconclusive", message))
            continue
        found.append(_speed_finding(one, limit, limit.look(launches), gate, row["speedup_reason"], launches))
    return found


def _speed_finding(
    one: Measured, limit: SpeedLimit, seen: Look, gate: GateConfig, missing: str | None, launches: Launches
) -> Finding:
    name, phase, expected = limit.name, limit.phase, limit.expected
    least, verdict = math.exp(expected), seen.verdict
    blank = Finding(one.label, name, verdict, "", "× faster", limit=least, n=seen.launches)
    if seen.loss is None:
        reason = missing or f"{seen.launches} launches, the first look is after {gate.looks[0]}"
        return replace(blank, verdict="inconclusive", message=f"{phase} was not compared: {reason}")
    value, low, high = (math.exp(expected - end) for end in (seen.loss.estimate, seen.loss.high, seen.loss.low))
    clock = limit.clock_of(launches)
    said = f"{phase} at {value:.3f}× [{low:.3f}, {high:.3f}] of {one.against}'s speed by {clock.said}"
    said += " (it is not bound by its CPU time)" if clock is not limit.clock else ""
    said += f", wanted {least:.3f}×, {seen.launches} launches: {_shown_loss(seen.loss, verdict, gate)}"
    if verdict == "fail":
        said += f"; profile {phase}, or if it is meant "
        said += "update=true" if name.startswith("baseline") else f"set gate.{name}={value:.2f}"
    elif verdict == "inconclusive":
        said += "; a quieter machine, more gate.looks or a wider gate.must_find"
    return replace(blank, message=said + _loose(limit, value, gate), value=value, low=low, high=high)


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
        if (value is None and other is None) or figure == _PEAK:
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


def _pairs(launches: Launches) -> list[float]:
    """Return log(the cell's peak / the reference's), one for each launch that knows both."""
    pairs = [(launch["candidate_memory"].get(_PEAK), launch["reference_memory"].get(_PEAK)) for launch in launches]
    return [math.log(mine / theirs) for mine, theirs in pairs if mine and theirs]


def _peaks(
    one: Measured,
    name: str,
    limits: Mapping[str, float],
    grown: Sequence[float] | Interval | None,
    against: str,
    level: float,
) -> list[Finding]:
    """Judge the peak of memory by launches: `grown` has the logarithms of its ratio, or already their interval."""
    if _PEAK not in limits:
        return []
    full, share = f"{name}.{_PEAK}", limits[_PEAK]
    seen = grown if isinstance(grown, Interval) or grown is None else mean_interval(grown, 2 * level - 1)
    if seen is None:
        return [Finding(one.label, full, "inconclusive", f"{_PEAK} of too few launches is known to judge it by")]
    value, low, high = (math.expm1(end) for end in (seen.estimate, seen.low, seen.high))
    verdict: Verdict = "pass" if high <= share else "fail" if low > share else "inconclusive"
    said = f"{_PEAK} {100 * value:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}] against {against}, at most "
    said += f"{100 * share:g} % more"
    if verdict == "fail":
        meant = "update=true" if name.startswith("baseline") else f"raise gate.{full}"
        said += f"; find what grew, or if it is meant {meant}"
    elif verdict == "inconclusive":
        said += "; more gate.looks, or a wider limit"
    return [Finding(one.label, full, verdict, said, "share more", "lower", value, low, high, share)]


def _apart(launches: Launches, earlier: Sequence[float | None], level: float) -> Interval | None:
    """Return the interval of log(peak now / peak of the baseline), whose launches were other ones."""
    now = [peak for launch in launches if (peak := launch["candidate_memory"].get(_PEAK))]
    before = [peak for peak in earlier if peak]
    return difference_of_means([math.log(peak) for peak in now], [math.log(peak) for peak in before], 2 * level - 1)


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
