"""The share of the reference's scores that a cell keeps, with bounds from the paired difference of items."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.columns import SCORES
from runtime_matrix.experiments.analysis.ranking import bounds
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.tasks.task import Score


@dataclass(frozen=True)
class Kept:
    """The share of the reference's score that a cell keeps in one benchmark. `low` None: no paired interval."""

    score: str
    share: float
    low: float | None
    high: float | None
    items: float | None = None
    is_untouched: bool = False  # no item flipped: the bound narrows with n, not with its root

    @property
    def text(self) -> str:
        """Return a phrase with the share and its interval in percent: `keeps 98.0 % [96.1, 99.9] of …`."""
        ends = "" if self.low is None or self.high is None else f" [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"keeps {100 * self.share:.1f} %{ends} of the reference's {self.score}"

    def items_to_show(self, floor: float) -> int | None:
        """Return about how many items would show that the floor is kept, if the estimate holds; None if none would.

        The distance from the estimate to its bound shrinks with the root of the number of items. If no item flipped,
        it shrinks with the number itself, slightly slower at first (the factor 1.1).
        """
        margin = self.share - floor
        if self.low is None or not self.items or margin <= 0:
            return None
        factor = (self.share - self.low) / margin
        needed = max(1.0, self.items * (1.1 * factor if self.is_untouched else factor**2))
        size = 10 ** max(0, math.floor(math.log10(needed)) - 1)  # two digits: it is an estimate
        return int(math.ceil(needed / size) * size)


def kept_scores(row: Row) -> list[Kept]:
    """Return the kept share for each benchmark that both the cell and its reference answered."""
    if row.is_reference:
        return [Kept("scores", 1.0, 1.0, 1.0)]
    shares = [_by_ratio(row, score) if score.kind.is_ratio else _by_difference(row, score) for score in SCORES.values()]
    return [share for share in shares if share is not None]


def _by_difference(row: Row, score: Score) -> Kept | None:
    key = score.metric
    percent = row.get(f"{key}_percent_of_reference")
    if percent is None:
        return None
    ends, share = bounds(row, key), percent / 100
    low, high = None, None
    if row.get(f"{key}_difference_low") is not None and ends and ends[1]:
        low, high = ends[0] / ends[1] * share, ends[2] / ends[1] * share
    is_untouched = row.get(f"{score.prefix}_flips_ratio") == 0
    return Kept(score.noun, share, low, high, row.get(f"{key}_items"), is_untouched)


def _by_ratio(row: Row, score: Score) -> Kept | None:
    key = score.metric
    percent = row.get(f"{key}_percent_of_reference")
    if not percent:
        return None
    low, high = row.get(f"{key}_ratio_low"), row.get(f"{key}_ratio_high")
    share_low, share_high = (1 / high, 1 / low) if low and high else (None, None)
    return Kept(score.noun, 100 / percent, share_low, share_high, row.get(f"{key}_items"))


def kept(row: Row) -> float | None:
    """Return the kept share of the benchmark that lost most; None if it is unknown."""
    return min((score.share for score in kept_scores(row)), default=1.0 if row.is_reference else None)


def weakest(row: Row) -> Kept | None:
    """Return the benchmark with the lowest bound; a missing bound is the lowest. None if there is no score."""
    return min(kept_scores(row), key=lambda score: -1.0 if score.low is None else score.low, default=None)


def is_shown(row: Row, floor: float) -> bool:
    """Return whether every benchmark's lower bound reaches this share of the reference's score."""
    score = weakest(row)
    return score is not None and score.low is not None and score.low >= floor


def unshown(row: Row, floor: float) -> str | None:
    """Return why a cell is not shown to keep the floor though its estimates reach it; None for other cells."""
    lacking = [score for score in kept_scores(row) if score.low is None or score.low < floor]
    if not lacking or any(score.share < floor for score in kept_scores(row)):
        return None
    worst = min(lacking, key=lambda score: -1.0 if score.low is None else score.low)
    items = worst.items_to_show(floor)
    if worst.low is None:
        remedy = "it was not compared with the reference on the same items"
    else:
        remedy = f"about {items:,} items would show it" if items else "no number of items would show it"
    others = f" (and {len(lacking) - 1} other benchmarks)" if len(lacking) > 1 else ""
    return f"{worst.text}{others}; {remedy}"
