"""Bootstrap intervals of measures over responses.

Sources are drawn, with all of their responses: those of one source are not independent. Detectors are not fitted again,
so an interval is that of judging, not of choosing. B replicates, R responses, N chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Replicates of responses, drawn once: figures of the same replicates can be subtracted and divided."""

    def __init__(self, sources: Sequence[str], seed: int, replicates: int = REPLICATES):
        cluster_R = np.unique(np.asarray(sources), return_inverse=True)[1]
        self._counts_BR = _drawn(cluster_R, np.random.default_rng(seed), replicates)

    def values(
        self,
        measure: Measure,
        is_positive: Bools,
        scores: Floats,
        fold: Ints,
        response_N: Ints | None = None,
    ) -> Floats:
        """Return the figure, the mean of its folds', and behind it its replicates (1 + B).

        `response_N` maps items that are chunks to their responses; `fold` is that of each item.
        """
        parts = []
        for name in np.unique(fold):
            items = np.flatnonzero(fold == name)
            columns = items if response_N is None else response_N[items]
            rows = max(1, _CELLS // len(items))
            values = [measure(is_positive[items], scores[items], np.ones((1, len(items))))]
            for at in range(0, len(self._counts_BR), rows):
                weights_BR = self._counts_BR[at : at + rows, columns].astype(float)
                values.append(measure(is_positive[items], scores[items], weights_BR))
            parts.append(np.concatenate(values))
        means: Floats = np.mean(parts, axis=0)
        return means


def interval_of(values: Floats, level: float = LEVEL) -> Interval | None:
    """Return a figure with the percentiles of the replicates behind it; None if it is undefined.

    Replicates without both classes have no value and are left out.
    """
    known = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[0]), float(low), float(high), level)


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
    bootstrap = Bootstrap(sources if sources is not None else list(map(str, range(len(is_positive_R)))), seed)
    first, second = (
        bootstrap.values(weighted_auc, is_positive_R, values_R, fold_R) for values_R in (scores_R, others_R)
    )
    interval = interval_of(first - second)
    if interval is None:
        raise DetectionError("too few responses: no replicate of the bootstrap has both classes")
    return interval


def _drawn(cluster_R: NDArray[np.intp], generator: np.random.Generator, replicates: int) -> NDArray[np.uint16]:
    """Return how often each response is drawn in each replicate (B, R)."""
    clusters = int(cluster_R.max()) + 1
    counts_BR = np.empty((replicates, len(cluster_R)), dtype=np.uint16)
    size = max(1, _CELLS // clusters)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = generator.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        counts_BC = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        counts_BR[start : start + rows] = counts_BC[:, cluster_R]
    return counts_BR
