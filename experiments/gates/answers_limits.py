"""Limits on answers: non-inferiority to a reference or a baseline, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runtime_matrix.experiments.comparison.answers import Scored
from runtime_matrix.experiments.gates.baseline import accuracy, baseline_scores
from runtime_matrix.experiments.gates.findings import Finding, Measured
from runtime_matrix.experiments.measurement.interval import Interval
from runtime_matrix.experiments.measurement.paired import items_needed, loss
from runtime_matrix.experiments.measurement.sequential import Verdict
from runtime_matrix.experiments.records.schema import Record


def judge_answers(measured: Measured, margins: Mapping[str, float], against: str, level: float) -> list[Finding]:
    mine = accuracy(measured.result)
    theirs = accuracy(measured.reference) if against == "reference" else {}
    found = []
    for benchmark, margin in margins.items():
        name = f"{against}.accuracy.{benchmark}"
        if benchmark not in mine or (against == "reference" and benchmark not in theirs):
            why = _why_missing(measured.result.record, benchmark)
            found.append(Finding(measured.label, name, "inconclusive", f"{benchmark} was not measured: {why}"))
            continue
        ours = mine[benchmark]
        if measured.baseline is not None and against == "baseline":
            other = baseline_scores(measured.baseline, benchmark, ours)
        else:
            other = theirs[benchmark]
        found.append(_accuracy_finding(measured, name, benchmark, margin, ours, other, level))
    return found


def _accuracy_finding(
    measured: Measured, name: str, benchmark: str, margin: float, mine: Scored, theirs: Scored, level: float
) -> Finding:
    """Judge by the score alone. The right choice's probability falls less than accuracy, which is lost by near ties:
    it is told where the score is inconclusive, and decides nothing.
    """
    is_share, two_sided = benchmark != "perplexity", 2 * level - 1
    scale, unit = (100, "points") if is_share else (1, "nats a token")
    seen = loss(mine.scores, theirs.scores, mine.clusters, two_sided, is_share)
    verdict = loss_verdict(seen, margin)
    blank = Finding(measured.label, name, verdict, "", unit, "lower", limit=margin * scale, n=len(mine.ids))
    if seen is None:
        return replace(blank, figures=f"{benchmark} has {len(mine.ids)} items: too few for an interval")
    value, low, high = (scale * end + 0.0 for end in (seen.estimate, seen.low, seen.high))  # never "-0"
    said = f"{benchmark} loses {value:.3g} {unit} [{low:.3g}, {high:.3g}], margin {margin * scale:g}, "
    said += f"{len(mine.ids)} items"
    advice = ""
    if verdict == "fail":
        items = measured.result.folder / f"items-{benchmark}.jsonl"
        advice = f"see the items in {items}; more bits or another runtime, or a margin"
    elif verdict == "inconclusive":
        needed = items_needed(mine.scores, theirs.scores, mine.clusters, two_sided, is_share, margin)
        advice = f"{_what_would_tell(needed)}{_of_probability(mine, theirs)}"
    return replace(blank, figures=said, advice=advice, value=value, low=low, high=high)


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


def _why_missing(record: Record, benchmark: str) -> str:
    for entry in record.benchmarks:
        if entry.benchmark == benchmark and entry.status != "ok":
            return f"{entry.status}: {entry.reason}"
    return f"not asked for; add it to benchmark=[…] or take it out: ~gate.reference.accuracy.{benchmark}"
