"""Judge paired answers: non-inferiority within a margin, pooled over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime_matrix.experiments.answers.pairing import Paired, pair, pooled
from runtime_matrix.experiments.answers.reading import read_answers
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.judge import overall
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import cluster_means, holm, items_needed, loss
from runtime_matrix.experiments.statistics.power import detectable_loss, passing_margin
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.statistics.shares import bounded_mean

CELL = "answers"  # the name of the judged file in findings
FLIPS = (0.02, 0.05, 0.1)  # shares of changed answers for which the plan is made


@dataclass(frozen=True, kw_only=True)
class AnswerLimits:
    """The largest loss: a share, or in the unit of a metric that is not a share.

    `each_task`: every task must meet it, beside all together. `is_sequential`: the bounds hold however often the gate
    is repeated while items are added. `alpha` is the probability of a wrong verdict, for all bounds together.
    """

    margin: float
    each_task: bool = False
    is_sequential: bool = False
    alpha: float = 0.05
    metric: str | None = None
    tasks: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UserError for limits that can judge nothing."""
        if self.margin < 0:
            raise UserError(f"--margin {self.margin:g} must be at least 0")
        if not 0 < self.alpha <= 0.5:
            raise UserError(f"--alpha {self.alpha:g} must be above 0 and at most 0.5")

    def plain(self) -> JsonObject:
        """Return the limits as plain data."""
        return {**vars(self), "name": "answers", "tasks": list(self.tasks)}


@dataclass(frozen=True)
class AnswerJudgement:
    """The findings on answers, what so many items can show, and the tasks that are not judged."""

    findings: list[LimitResult]
    tasks: list[Paired]
    plan: list[str]
    left_out: list[str]

    @property
    def verdict(self) -> Verdict:
        """Return fail if any limit failed, pass if all passed, else inconclusive."""
        return overall(self.findings)


def judge_answers(candidate: Path, reference: Path, limits: AnswerLimits) -> AnswerJudgement:
    """Judge the candidate's answers by the reference's. UserError for files that do not match."""
    limits.check()
    sides = [read_answers(path, limits.metric, limits.tasks) for path in (candidate, reference)]
    tasks = pair(sides[0], sides[1], candidate, reference)
    shares = [task for task in tasks if task.is_share]
    judged = shares or tasks[:1]
    left_out = [
        f"{task.name}: its {task.metric} is not a share from 0 to 1; judge it alone: --tasks {task.name}"
        for task in tasks
        if task not in judged
    ]
    everything = pooled(judged) if len(judged) > 1 else judged[0]
    single = judged if limits.each_task and len(judged) > 1 else []
    level = 1 - limits.alpha / (1 + len(single))
    findings = [_finding(everything, limits, level), *(_finding(task, limits, level) for task in single)]
    return AnswerJudgement(findings, judged, plan(judged, limits.margin, level), left_out)


def plan(tasks: Sequence[Paired], margin: float, level: float) -> list[str]:
    """Return, in lines, which loss so many items can show; nothing for scores that are not shares.

    It uses the number of independent items alone, none of the scores.
    """
    if not all(task.is_share for task in tasks):
        return []
    items = sum(len(set(task.clusters)) for task in tasks)
    lines = [
        f"what {items:,} independent items can show of a margin of {100 * margin:g} points, with probability 80 %:"
    ]
    for flips in FLIPS:
        fails = detectable_loss(items, flips, margin, 2 * level - 1)
        loss_text = f"a loss of {100 * fails:.2g} points fails" if fails <= 1 else "no loss fails"
        passing = passing_margin(items, flips, 2 * level - 1)
        passes = "pass" if passing < margin else f"pass a margin of {100 * passing:.2g} points, not this one"
        lines.append(
            f"  if {100 * flips:g} % of the answers change besides: {loss_text}, equally good answers {passes}"
        )
    return lines


def table(tasks: Sequence[Paired]) -> list[str]:
    """Return one line per task: its items, both scores, worse and better items, and McNemar's p value after Holm."""
    p_values = holm([1.0 if (p_value := task.p_value) is None else p_value for task in tasks])
    lines = []
    for task, p_value in zip(tasks, p_values, strict=True):
        scale = 100 if task.is_share else 1
        own, other = (scale * sum(scores) / len(scores) for scores in (task.candidate, task.reference))
        worse, better = task.flips
        shown = f", p {p_value:.3g}" if task.p_value is not None else ""
        lines.append(
            f"  {task.name}: {len(task.candidate):,} items, {task.metric} {abs(own):.4g} against {abs(other):.4g}, "
            f"{worse} worse, {better} better{shown}"
        )
    return lines


def _finding(task: Paired, limits: AnswerLimits, level: float) -> LimitResult:
    scale, unit = (100, "points") if task.is_share else (1, task.metric)
    interval = _interval(task, limits, 2 * level - 1)
    verdict = _verdict(interval, limits.margin)
    blank = LimitResult(CELL, task.name, verdict, "", unit, "lower", limit=limits.margin * scale, n=len(task.candidate))
    if interval is None:
        return replace(blank, figures=f"{len(task.candidate)} items: too few for an interval")
    value, low, high = (scale * end + 0.0 for end in (interval.estimate, interval.low, interval.high))
    figures = f"{task.metric} loses {value:.3g} {unit} [{low:.3g}, {high:.3g}], margin {limits.margin * scale:g}, "
    figures += f"{len(task.candidate):,} items"
    if task.p_value is not None:
        figures += f", McNemar p {task.p_value:.3g}"
    return replace(
        blank, figures=figures, advice=_advice(task, limits, level, verdict), value=value, low=low, high=high
    )


def _verdict(interval: Interval | None, margin: float) -> Verdict:
    """Return pass or fail if the loss is shown to be below or above the margin; each is wrong with at most `alpha`."""
    if interval is None:
        return "inconclusive"
    if interval.high < margin or (margin == 0 and interval.high <= 0):
        return "pass"
    return "fail" if interval.low > margin else "inconclusive"


def _interval(task: Paired, limits: AnswerLimits, level: float) -> Interval | None:
    """Return the interval of the loss. A sequential one is by betting, whose bounds hold at any number of items."""
    if not limits.is_sequential:
        return loss(task.candidate, task.reference, task.clusters, level, task.is_share)
    if not task.is_share:
        raise UserError(f"{task.name}: --sequential needs scores from 0 to 1; {task.metric} is not")
    lost = [reference - candidate for candidate, reference in zip(task.candidate, task.reference, strict=True)]
    return bounded_mean(cluster_means(lost, task.clusters), level)


def _advice(task: Paired, limits: AnswerLimits, level: float, verdict: Verdict) -> str:
    if verdict == "pass":
        return ""
    if verdict == "fail":
        return "compare the items that got worse, or allow the loss: --margin"
    needed = items_needed(task.candidate, task.reference, task.clusters, 2 * level - 1, task.is_share, limits.margin)
    if needed is None:
        return "the loss may be above the margin; more items would decide"
    again = "" if limits.is_sequential else "; to look again after adding some, use --sequential from the start"
    return f"about {needed:,} items like these would decide{again}"
