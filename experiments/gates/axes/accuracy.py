"""Accuracy: non-inferiority of answers to the reference and to the baseline, item by item."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from msgspec import Struct
from typing_extensions import override

from runtime_matrix.experiments.analysis.paired_outputs import read_items, score_of, scored
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
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.tasks.score_kinds import Scored

Margins = dict[str, float]  # of the loss, by benchmark: score from 0 to 1, or nats per token


class BaselineScores(Struct, frozen=True, kw_only=True):
    """The scores of a benchmark by item, one line each, so that a diff of the file shows the changed ones."""

    scores: dict[str, float]
    probabilities: dict[str, float] | None = None  # of the right choice


class KeptScores(Kept[dict[str, BaselineScores]]):
    """The part of a baseline with scores by benchmark."""

    @override
    def make(self, result: Result, against: str | None) -> dict[str, BaselineScores]:
        return {name: _items(scores) for name, scores in accuracy(result).items()}

    @override
    def changes(self, before: dict[str, BaselineScores], now: dict[str, BaselineScores]) -> list[str]:
        changes = []
        for name, kept in now.items():
            scores = before[name].scores if name in before else {}
            changed = sum(scores.get(key) != score for key, score in kept.scores.items())
            if changed:
                changes.append(f"{name}: {changed} of {len(kept.scores)} items differ")
        return changes


KEPT = KeptScores(key="accuracy", kind=dict[str, BaselineScores], absent=None, place=60)


class AccuracyLimits(Limits[Margins]):
    """The largest loss of score by benchmark."""

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
        title, scores = f"the baseline of {cell.label}", KEPT.of(baseline)
        for name in limits:
            if name not in scores:
                known = did_you_mean(name, scores)
                raise UserError(f"{title} holds no benchmark {name}{known}; update=true measures it")
            baseline_version, version = baseline.versions.get(name, 1), cell.config.benchmark.versions().get(name, 1)
            if baseline_version != version:
                raise UserError(
                    f"{title} is of version {baseline_version} of benchmark {name}, this is {version}: "
                    "update=true makes a new one"
                )
            if baseline.asked.get(name) != asked(cell).get(name):
                raise UserError(f"{title} has other options of benchmark.{name}: update=true, or restore the options")


def judge_answers(measured: Measured, margins: Mapping[str, float], against: Part, level: float) -> list[LimitResult]:
    """Return one finding per benchmark. UserError if the baseline has other items."""
    own_scores = accuracy(measured.result)
    reference_scores = accuracy(measured.reference) if against == "reference" else {}
    results = []
    for benchmark, margin in margins.items():
        name = f"{against}.accuracy.{benchmark}"
        if benchmark not in own_scores or (against == "reference" and benchmark not in reference_scores):
            reason = _why_missing(measured.result.record, benchmark)
            results.append(LimitResult(measured.label, name, "inconclusive", f"{benchmark} was not measured: {reason}"))
            continue
        candidate = own_scores[benchmark]
        if measured.baseline is not None and against == "baseline":
            other = baseline_scores(measured.baseline, benchmark, candidate)
        else:
            other = reference_scores[benchmark]
        results.append(_accuracy_finding(measured, name, benchmark, margin, candidate, other, level))
    return results


def _accuracy_finding(
    measured: Measured, name: str, benchmark: str, margin: float, candidate: Scored, other: Scored, level: float
) -> LimitResult:
    """Judge by the score alone. The probability of the right choice falls less than accuracy, which is lost in near
    ties, so it is only reported with an inconclusive score.
    """
    kind, two_sided = score_of(benchmark).kind, 2 * level - 1
    scale, unit = kind.factor, kind.unit
    loss_interval = kind.loss(candidate, other, two_sided)
    verdict = loss_verdict(loss_interval, margin)
    blank = LimitResult(measured.label, name, verdict, "", unit, "lower", limit=margin * scale, n=len(candidate.ids))
    if loss_interval is None:
        return replace(blank, figures=f"{benchmark} has {len(candidate.ids)} items: too few for an interval")
    ends = (loss_interval.estimate, loss_interval.low, loss_interval.high)
    value, low, high = (scale * end + 0.0 for end in ends)  # + 0.0 turns -0.0 into 0.0
    figures = f"{benchmark} loses {value:.3g} {unit} [{low:.3g}, {high:.3g}], margin {margin * scale:g}, "
    figures += f"{len(candidate.ids)} items"
    advice = ""
    if verdict == "fail":
        items = measured.result.folder / str(measured.result.record.entries()[benchmark].items_file)
        advice = f"see the items in {items}; more bits or another runtime, or a margin"
    elif verdict == "inconclusive":
        needed = kind.items_needed(candidate, other, two_sided, margin)
        advice = f"{_items_text(needed)}{_of_probability(candidate, other)}"
    return replace(blank, figures=figures, advice=advice, value=value, low=low, high=high)


def loss_verdict(interval: Interval | None, margin: float) -> Verdict:
    """Return pass if the upper bound is below the margin, fail if the loss is significant and above it."""
    if interval is None:
        return "inconclusive"
    if interval.high < margin or (margin == 0 and interval.high <= 0):
        return "pass"
    return "fail" if interval.low > 0 and interval.estimate > margin else "inconclusive"


def _items_text(items: int | None) -> str:
    if items is None:
        return "the loss may be above the margin; more items would decide"
    return f"about {items:,} items like these would decide, or a wider margin"


def _of_probability(candidate: Scored, other: Scored) -> str:
    if not candidate.probabilities or not other.probabilities:
        return ""
    difference = (sum(other.probabilities) - sum(candidate.probabilities)) / len(candidate.ids)
    return f" (the right choice's probability fell by {100 * difference + 0.0:.3g} points)"


def _why_missing(record: Record, benchmark: str) -> str:
    for entry in record.benchmarks:
        if entry.benchmark == benchmark and entry.why_unscored:
            return entry.why_unscored
        if entry.benchmark == benchmark and entry.status != "ok":
            return f"{entry.status}: {entry.reason}"
    return f"not selected; add it to benchmark=[…] or remove the limit: ~gate.reference.accuracy.{benchmark}"


def baseline_scores(baseline: Baseline, name: str, candidate: Scored) -> Scored:
    """Return the baseline's scores of these items. UserError if the baseline has other items."""
    baseline_part = KEPT.of(baseline)[name]
    if list(baseline_part.scores) != candidate.ids:
        raise UserError(
            f"the baseline of {baseline.cell} has other items of {name} ({len(baseline_part.scores)}, now "
            f"{len(candidate.ids)}): update=true if the change is intended"
        )
    probabilities = list(baseline_part.probabilities.values()) if baseline_part.probabilities is not None else None
    return candidate.with_values(list(baseline_part.scores.values()), probabilities)


def accuracy(result: Result) -> dict[str, Scored]:
    """Return the scores of a record's items by benchmark. ValueError or KeyError for damaged files."""
    entries = result.record.entries()
    return {
        name: scored(name, read_items(result.folder / file, name))
        for name in gate_limits.ACCURACY
        if name in entries and (file := entries[name].items_file) and not entries[name].why_unscored
    }


def _items(scores: Scored) -> BaselineScores:
    probabilities = scores.probabilities
    return BaselineScores(
        scores=dict(zip(scores.ids, shortened(scores.scores), strict=True)),
        probabilities=dict(zip(scores.ids, shortened(probabilities), strict=True))
        if probabilities is not None
        else None,
    )


_RULE = Rule(least=0, keys=lambda: gate_limits.ACCURACY)
REFERENCE = AccuracyLimits(part="reference", key="accuracy", kind=Margins, default={}, rule=_RULE, place=30)
BASELINE = AccuracyLimits(part="baseline", key="accuracy", kind=Margins, default={}, rule=_RULE, place=70)
AXIS = Axis(limits=(REFERENCE, BASELINE), kept=(KEPT,), place=60)
