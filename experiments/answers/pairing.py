"""Pair the answers of two files item by item. Files of different tasks, items or questions are refused."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.answers.task_answers import TaskAnswers
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.statistics.shares import mcnemar_mid_p

_MOST_NAMED = 3


@dataclass(frozen=True)
class Paired:
    """The scores of two files on the same items, so that higher is better. `is_share`: all lie between 0 and 1."""

    name: str
    metric: str
    candidate: list[float]
    reference: list[float]
    clusters: list[Hashable]
    is_share: bool

    @property
    def right_or_wrong(self) -> bool:
        """Return whether every score is 0 or 1."""
        return {*self.candidate, *self.reference} <= {0.0, 1.0}

    @property
    def flips(self) -> tuple[int, int]:
        """Return how many items have a worse score than the reference's, and how many a better one."""
        pairs = list(zip(self.candidate, self.reference, strict=True))
        return sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)

    @property
    def p_value(self) -> float | None:
        """Return McNemar's mid-p value; None unless every score is 0 or 1."""
        return mcnemar_mid_p(*self.flips) if self.right_or_wrong else None


def pair(
    candidate: Sequence[TaskAnswers], reference: Sequence[TaskAnswers], candidate_path: Path, reference_path: Path
) -> list[Paired]:
    """Return the paired tasks in the reference's order. UserError, with names, for what has no counterpart."""
    own, other = ({task.task: task for task in tasks} for tasks in (candidate, reference))
    for missing, path in ((other.keys() - own.keys(), candidate_path), (own.keys() - other.keys(), reference_path)):
        if missing:
            raise UserError(f"{path} has no task {_named(sorted(missing))}: choose common ones with --tasks")
    return [_pair(own[name], task, candidate_path, reference_path) for name, task in other.items()]


def _pair(candidate: TaskAnswers, reference: TaskAnswers, candidate_path: Path, reference_path: Path) -> Paired:
    name = reference.task
    if candidate.metric != reference.metric:
        raise UserError(
            f"{name}: {candidate_path} has the metric {candidate.metric} and {reference_path} {reference.metric}: "
            "choose one with --metric"
        )
    places = {item: place for place, item in enumerate(candidate.ids)}
    known = set(reference.ids)
    for path, missing in (
        (candidate_path, [item for item in reference.ids if item not in places]),
        (reference_path, [item for item in candidate.ids if item not in known]),
    ):
        if missing:
            raise UserError(f"{name}: {path} lacks {_items(missing)} of the other file's; compare the same items")
    order = [places[item] for item in reference.ids]
    different = [
        item
        for item, place, question in zip(reference.ids, order, reference.questions, strict=True)
        if None not in (question, candidate.questions[place]) and question != candidate.questions[place]
    ]
    if different:
        raise UserError(f"{name}: {_items(different)} ask something else in {candidate_path} than in {reference_path}")
    sign = 1.0 if reference.higher_is_better else -1.0
    return Paired(
        name,
        reference.metric,
        [sign * candidate.scores[place] for place in order],
        [sign * score for score in reference.scores],
        list(reference.clusters),
        reference.higher_is_better and candidate.is_share and reference.is_share,
    )


def pooled(tasks: Sequence[Paired]) -> Paired:
    """Return all items of several tasks as one; items of different tasks share no cluster."""
    return Paired(
        f"all {len(tasks)} tasks",
        tasks[0].metric if len({task.metric for task in tasks}) == 1 else "score",
        [score for task in tasks for score in task.candidate],
        [score for task in tasks for score in task.reference],
        [(task.name, cluster) for task in tasks for cluster in task.clusters],
        all(task.is_share for task in tasks),
    )


def _items(items: Sequence[str]) -> str:
    noun = "item" if len(items) == 1 else f"{len(items)} items,"
    return f"{noun} {_named(items)}"


def _named(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")
