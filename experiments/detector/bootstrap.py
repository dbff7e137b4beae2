"""Bootstrap intervals of measures over responses.

Sources are drawn, with all of their responses, within each fold: responses of one source are not independent. A figure
is the mean of its folds'. Detectors are not fitted again, so the interval is that of judging, not of choosing. B
replicates, R responses, N chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.measures import Measure, weighted_auc
from runtime_matrix.experiments.detector.scores import Bools, Floats, Ints
from runtime_matrix.experiments.statistics.interval import Interval

REPLICATES = 2000
LEVEL = 0.95
_CELLS = 2**21  # numbers held at once per array, 16 MiB


class Bootstrap:
    """Replicates of responses, drawn once: figures of the same replicates can be subtracted or divided."""

    def __init__(self, fold_R: Ints, sources: Sequence[str], seed: int, replicates: int = REPLICATES):
        self._folds = [np.flatnonzero(fold_R == fold) for fold in np.unique(fold_R)]
        generator = np.random.default_rng(seed)
        self._counts = [
            _drawn(np.unique([sources[index] for index in members], return_inverse=True)[1], generator, replicates)
            for members in self._folds
        ]

    def values(
        self, measure: Measure, is_positive: Bools, scores: Floats, response_N: Ints | None = None
    ) -> tuple[float, Floats]:
        """Return the figure and its replicates (B). `response_N` maps items that are chunks to their responses."""
        parts = [self._of_fold(at, measure, is_positive, scores, response_N) for at in range(len(self._folds))]
        values_B = np.mean(parts, axis=0)
        return float(values_B[0]), values_B[1:]

    def interval(
        self, measure: Measure, is_positive: Bools, scores: Floats, response_N: Ints | None = None
    ) -> Interval | None:
        """Return the figure with its percentile interval; None if the figure is undefined."""
        return percentiles(*self.values(measure, is_positive, scores, response_N))

    def _of_fold(
        self, at: int, measure: Measure, is_positive: Bools, scores: Floats, response_N: Ints | None
    ) -> Floats:
        """Return the figure of one fold, and its replicates behind it."""
        place_R = np.full(1 + max(map(np.max, self._folds)), -1)
        place_R[self._folds[at]] = np.arange(len(self._folds[at]))
        place = place_R if response_N is None else place_R[response_N]  # of each item within the fold
        items = np.flatnonzero(place >= 0)
        of_item = place[items]
        blocks: list[NDArray[Any]] = [
            np.ones((1, len(items))),
            *(counts[:, of_item] for counts in self._blocks(at, len(items))),
        ]
        return np.concatenate([measure(is_positive[items], scores[items], block.astype(float)) for block in blocks])

    def _blocks(self, at: int, items: int) -> Iterator[NDArray[np.uint16]]:
        size = max(1, _CELLS // max(1, items))
        counts = self._counts[at]
        yield from (counts[start : start + size] for start in range(0, len(counts), size))


def percentiles(estimate: float, values_B: Floats, level: float = LEVEL) -> Interval | None:
    """Return an estimate with the percentiles of its replicates; None if it is undefined.

    Replicates without both classes have no value and are left out.
    """
    known = values_B[np.isfinite(values_B)]
    if not np.isfinite(estimate) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def auc_difference(
    is_positive_R: Bools,
    scores_R: Floats,
    others_R: Floats,
    fold_R: Ints,
    seed: int,
    sources: Sequence[str] | None = None,
) -> Interval:
    """Return AUC(scores) − AUC(others) of the same responses with its paired interval.

    Without `sources`, each response is its own. DetectionError if a fold has responses of one class only.
    """
    for fold in np.unique(fold_R):
        if len(np.unique(is_positive_R[fold_R == fold])) < 2:
            raise DetectionError("all labels of a fold are of one class: no AUC can be computed")
    names = sources if sources is not None else [str(index) for index in range(len(is_positive_R))]
    bootstrap = Bootstrap(fold_R, names, seed)
    first, first_B = bootstrap.values(weighted_auc, is_positive_R, scores_R)
    second, second_B = bootstrap.values(weighted_auc, is_positive_R, others_R)
    interval = percentiles(first - second, first_B - second_B)
    if interval is None:
        raise DetectionError("too few responses: no replicate of the bootstrap has both classes")
    return interval


def _drawn(cluster_R: NDArray[np.intp], generator: np.random.Generator, replicates: int) -> NDArray[np.uint16]:
    """Return how often each response is drawn in each replicate (B, R)."""
    clusters = int(cluster_R.max()) + 1
    counts = np.empty((replicates, len(cluster_R)), dtype=np.uint16)
    size = max(1, _CELLS // clusters)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = generator.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        counts_bC = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        counts[start : start + rows] = counts_bC[:, cluster_R]
    return counts
