"""Answers: non-inferiority to the reference and to the baseline, item by item."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from msgspec import Struct
from typing_extensions import override

from runtime_matrix.experiments.analysis.paired_outputs import Scored, read_items, score_of, scored
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates import limits as gate_limits
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits, Part
from runtime_matrix.experiments.gates.baseline import Baseline, asked, shortened
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import items_needed, loss
from runtime_matrix.experiments.statistics.sequential import Verdict

Margins = dict[str, float]  # of the loss, by benchmark: score from 0 to 1, nats a token


class BaselineScores(Struct, frozen=True, kw_only=True):
    """What a benchmark's items were worth, by item: a line each, so that a diff shows which have changed."""

    scores: dict[str, float]
    probabilities: dict[str, float] | None = None  # of the right choice


class KeptScores(Kept[dict[str, BaselineScores]]):
    @override
    def make(self, result: Result, against: str | None) -> dict[str, BaselineScores]:
        return {name: _items(found) for name, found in accuracy(result).items()}

    @override
    def changes(self, before: dict[str, BaselineScores], now: dict[str, BaselineScores]) -> list[str]:
        found = []
        for name, kept in now.items():
            scores = before[name].scores if name in before else {}
            changed = sum(scores.get(key) != score for key, score in kept.scores.items())
            if changed:
                found.append(f"{name}: {changed} of {len(kept.scores)} items differ")
        return found


KEPT = KeptScores(key="accuracy", kind=dict[str, BaselineScores], absent=None, place=60)


class AccuracyLimits(Limits[Margins]):
    @override
    def judge(self, measured: Measured, limits: Margins, gate: GateConfig, level: float) -> list[LimitResult]:
        return judge_answers(measured, limits, self.part, level)

    @override
    def bounds(self, limits: Margins) -> int:
        return len(limits)

    @override
    def benchmarks(self, limits: Margins) -> Collection[str]:
        return limits

    @override
    def check_baseline(self, limits: Margins, baseline: Baseline, cell: Cell) -> None:
        what, scores = f"the baseline of {cell.label}", KEPT.of(baseline)
        for name in limits:
            if name not in scores:
                known = did_you_mean(name, scores)
                raise UserError(f"{what} holds no benchmark {name}{known}; update=true measures it")
            kept, now = baseline.versions.get(name, 1), cell.config.benchmark.versions().get(name, 1)
            if kept != now:
                raise UserError(
                    f"{what} is of version {kept} of benchmark {name}, this is {now}: update=true makes it anew"
                )
            if baseline.asked.get(name) != asked(cell).get(name):
                raise UserError(f"{what} asked benchmark.{name} otherwise: update=true, or set its options back")


def judge_answers(measured: Measured, margins: Mapping[str, float], against: Part, level: float) -> list[LimitResult]:
    mine = accuracy(measured.result)
    theirs = accuracy(measured.reference) if against == "reference" else {}
    found = []
    for benchmark, margin in margins.items():
        name = f"{against}.accuracy.{benchmark}"
        if benchmark not in mine or (against == "reference" and benchmark not in theirs):
            why = _why_missing(measured.result.record, benchmark)
            found.append(LimitResult(measured.label, name, "inconclusive", f"{benchmark} was not measured: {why}"))
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
) -> LimitResult:
    """Judge by the score alone. The right choice's probability falls less than accuracy, which is lost by near ties:
    it is told where the score is inconclusive, and decides nothing.
    """
    is_share, two_sided = score_of(benchmark).kind == "share", 2 * level - 1
    scale, unit = (100, "points") if is_share else (1, "nats a token")
    seen = loss(mine.scores, theirs.scores, mine.clusters, two_sided, is_share)
    verdict = loss_verdict(seen, margin)
    blank = LimitResult(measured.label, name, verdict, "", unit, "lower", limit=margin * scale, n=len(mine.ids))
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


def baseline_scores(baseline: Baseline, name: str, mine: Scored) -> Scored:
    """Return the scores that the baseline keeps of these items; UserError when they are other items."""
    kept = KEPT.of(baseline)[name]
    if list(kept.scores) != mine.ids:
        raise UserError(
            f"the baseline of {baseline.cell} has other items of {name} ({len(kept.scores)}, now "
            f"{len(mine.ids)}): update=true if the change is meant"
        )
    chances = list(kept.probabilities.values()) if kept.probabilities is not None else None
    return Scored(mine.ids, mine.clusters, list(kept.scores.values()), chances)


def accuracy(result: Result) -> dict[str, Scored]:
    """Return the scores of the items that a record's benchmarks left in its folder."""
    files = {entry.benchmark: entry.items_file for entry in result.record.benchmarks if entry.status == "ok"}
    return {
        name: scored(name, read_items(result.folder / file, name))
        for name in gate_limits.ACCURACY
        if (file := files.get(name))
    }


def _items(found: Scored) -> BaselineScores:
    chances = found.probabilities
    return BaselineScores(
        scores=dict(zip(found.ids, shortened(found.scores), strict=True)),
        probabilities=dict(zip(found.ids, shortened(chances), strict=True)) if chances is not None else None,
    )


_RULE = Rule(least=0, keys=lambda: gate_limits.ACCURACY)
REFERENCE = AccuracyLimits(part="reference", key="accuracy", kind=Margins, default={}, rule=_RULE, place=30)
BASELINE = AccuracyLimits(part="baseline", key="accuracy", kind=Margins, default={}, rule=_RULE, place=70)
AXIS = Axis(limits=(REFERENCE, BASELINE), kept=(KEPT,), place=60)
