"""The published grid: numbers of heads and layers, and the weights of the two sums; the best AUC of responses wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtime_matrix.experiments.detector.measures import DIGITS, auc_of_columns
from runtime_matrix.experiments.detector.scores import Bools, Floats

TOP = range(1, 8)  # heads, and layers
ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
MS = (0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class GridPoint:
    """One setting of the grid, and its AUC where it was chosen."""

    top_heads: int
    top_layers: int
    alpha: float
    m: float
    auc: float


def best_point(is_unsupported_R: Bools, context_RT: Floats, knowledge_RT: Floats) -> GridPoint:
    """Return the first point of the best AUC.

    Column t − 1 of `context_RT` has the responses' means of the scaled sum of the t best heads, `knowledge_RT` that of
    the layers: a response's score is linear in its chunks', so chunks need not be visited again.
    """
    alphas, ms = (part.ravel() for part in np.meshgrid(ALPHAS, MS, indexing="ij"))
    best: GridPoint | None = None
    for heads, context_R in enumerate(context_RT.T, start=1):
        for layers, knowledge_R in enumerate(knowledge_RT.T, start=1):
            scores_RC = np.round(np.outer(knowledge_R, ms) - np.outer(context_R, alphas), DIGITS)
            aucs_C = np.round(auc_of_columns(is_unsupported_R, scores_RC), DIGITS)
            at = int(np.argmax(aucs_C))
            if best is None or aucs_C[at] > best.auc:
                best = GridPoint(heads, layers, float(alphas[at]), float(ms[at]), float(aucs_C[at]))
    assert best is not None
    return best
