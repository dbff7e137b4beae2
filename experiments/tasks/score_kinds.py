"""The kinds of scores: how items become values whose mean is the score, and how a cell's loss of it is bounded.

A benchmark names its kind in `Score`. Comparisons, gates, marks and reports use what a kind declares, so that a further
kind is one class here, or in a package of your own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from runtime_matrix.experiments.records.item import Item, present
from runtime_matrix.experiments.statistics import paired
from runtime_matrix.experiments.statistics.auc import linear_auc
from runtime_matrix.experiments.statistics.interval import Interval


@dataclass(frozen=True)
class Scored:
    """The values of one benchmark's items, in their order. Their mean is the score, or moves as it does."""

    ids: list[str]
    clusters: list[Hashable]
    scores: list[float]
    probabilities: list[float] | None = None  # of the right choice, if all items have choices
    reach: float = 1.0  # the change of a value if its item alone goes from worst to best

    def with_values(self, scores: list[float], probabilities: list[float] | None) -> Scored:
        """Return other values of the same items."""
        return Scored(self.ids, self.clusters, scores, probabilities, self.reach)


class ScoreKind(ABC):
    """A kind of score. The class variables are those of shares: answers that are worth 0 to 1."""

    unit: ClassVar[str] = "points"  # of a loss, as findings of gates show it
    factor: ClassVar[float] = 100.0  # from the loss of items to that unit
    is_share: ClassVar[bool] = True  # values lie between 0 and 1
    has_answers: ClassVar[bool] = True  # items are answers: they are counted per hour, exported and combined
    is_ratio: ClassVar[bool] = False  # lower scores are better, and two cells are compared by the ratio of theirs
    rounding: ClassVar[float] = 0.0  # a loss that rounding explains, in the unit of items

    @abstractmethod
    def scored(self, items: Sequence[Item], field: str) -> Scored:
        """Return the items' values; `field` is that of their score. KeyError for an item without it."""

    def figure(self, field: str) -> str:
        """Return what an item's value is called; `field` is that of its score."""
        return field

    def loss(self, candidate: Scored, reference: Scored, level: float = 0.95) -> Interval | None:
        """Return mean(reference − candidate) with its interval; None if there are too few items.

        For shares, the bounds hold even if few items differ: see `statistics/paired.py`.
        """
        return paired.loss(candidate.scores, reference.scores, candidate.clusters, level, self.is_share)

    def items_needed(self, candidate: Scored, reference: Scored, level: float, margin: float) -> int | None:
        """Return how many items like these would bound the loss below `margin`; None if no number would."""
        return paired.items_needed(candidate.scores, reference.scores, candidate.clusters, level, self.is_share, margin)


class Share(ScoreKind):
    """Answers that are worth 0 to 1 each, such as right or wrong."""

    @override
    def scored(self, items: Sequence[Item], field: str) -> Scored:
        names = [present(item.id, "id") for item in items]
        ids = [f"{name}/{item.sample}" if item.sample else str(name) for name, item in zip(names, items, strict=True)]
        probabilities = None
        if items and all(item.logprobs is not None for item in items):
            probabilities = [choice_probabilities(item)[item.answer] for item in items]
        clusters = [item.cluster if item.cluster is not None else name for name, item in zip(names, items, strict=True)]
        return Scored(ids, clusters, [float(present(item.worth, field)) for item in items], probabilities)


class Perplexity(ScoreKind):
    """Windows of a text with their log-probabilities."""

    unit = "nats per token"
    factor = 1.0
    is_share = False
    has_answers = False
    is_ratio = True
    rounding = 1e-3

    @override
    def scored(self, items: Sequence[Item], field: str) -> Scored:
        ids = [str(present(item.window, "window")) for item in items]
        # Weighted by its tokens, so that the mean over windows is the mean per token.
        mean = sum(present(item.tokens, "tokens") for item in items) / len(items)
        return Scored(ids, list(ids), [present(item.logprob, "logprob") / mean for item in items])

    @override
    def figure(self, field: str) -> str:
        return "log-probability per token"


class Auc(ScoreKind):
    """Scores of two classes; of each fold the area under the ROC curve counts, and the mean of the folds'."""

    unit = "AUC"
    factor = 1.0
    is_share = False
    has_answers = False

    @override
    def scored(self, items: Sequence[Item], field: str) -> Scored:
        names = [str(present(item.id, "id")) for item in items]
        folds = [present(item.fold, "fold") for item in items]
        is_positive = [present(item.is_unsupported, "is_unsupported") for item in items]
        values = [float(present(item.worth, field)) for item in items]
        clusters: list[Hashable] = [
            item.cluster if item.cluster is not None else name for item, name in zip(items, names, strict=True)
        ]
        linear = linear_auc(is_positive, values, folds)
        return Scored(names, clusters, linear.values, reach=linear.reach)

    @override
    def figure(self, field: str) -> str:
        return "share of the AUC"

    @override
    def loss(self, candidate: Scored, reference: Scored, level: float = 0.95) -> Interval | None:
        """Return the loss of AUC with the interval of DeLong et al., clustered.

        If no item of n clusters changed, one of −ln((1 − level) / 2) / n may still change: the interval is at least as
        wide as if each of these went from worst to best.
        """
        interval = super().loss(candidate, reference, level)
        if interval is None:
            return None
        unseen = candidate.reach * _unseen(level) / len(set(candidate.clusters))
        estimate = interval.estimate
        return Interval(estimate, min(interval.low, estimate - unseen), max(interval.high, estimate + unseen), level)

    @override
    def items_needed(self, candidate: Scored, reference: Scored, level: float, margin: float) -> int | None:
        needed, interval = super().items_needed(candidate, reference, level, margin), self.loss(candidate, reference)
        if needed is None or interval is None or interval.estimate >= margin:
            return None
        items = len(candidate.ids) / len(set(candidate.clusters))
        return max(needed, math.ceil(items * candidate.reach * _unseen(level) / (margin - interval.estimate)))


SHARE, PERPLEXITY, AUC = Share(), Perplexity(), Auc()


def _unseen(level: float) -> float:
    """Return the bound of a share that was never seen among n, times n: three for one side at 95 %."""
    return -math.log((1 - level) / 2)


def choice_probabilities(item: Item) -> list[float]:
    """Return the probability of each choice among an item's choices."""
    logprobs = present(item.logprobs, "logprobs")
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return [weight / sum(weights) for weight in weights]
