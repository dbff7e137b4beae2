"""The score of each chunk, a weighted sum of its features, in three ways: a loop, NumPy and Numba.

Only NumPy's is used elsewhere. The others are what the Optimization Guide compares: a loop over rows in Python, and the
same loop compiled.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# N chunks, F features: heads and layers
Floats = NDArray[np.float64]
Calculation = Callable[[Floats, Floats], Floats]
_TOLERANCE = 1e-9  # of float64 sums in another order
INSTALL = "Numba is not installed: pip install 'runtime-matrix[detection]'"


def by_loop(features_NF: Floats, weights_F: Floats) -> Floats:
    """Return the weighted sum of each row, one row at a time."""
    scores_N = np.zeros(len(features_NF))
    for row in range(len(features_NF)):
        scores_N[row] = np.dot(features_NF[row], weights_F)
    return scores_N


def by_numpy(features_NF: Floats, weights_F: Floats) -> Floats:
    """Return the weighted sum of each row as one matrix product."""
    scores_N: Floats = features_NF @ weights_F
    return scores_N


@dataclass(frozen=True)
class Compiled:
    """The loop compiled by Numba, and the seconds that importing Numba and compiling for float64 took."""

    calculate: Calculation
    compile_s: float


def compiled() -> Compiled | None:
    """Compile the loop. None if Numba is not installed."""
    start = time.perf_counter()
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        return None
    calculate: Calculation = numba.njit(by_loop)
    calculate(np.ones((2, 2)), np.ones(2))  # the first call compiles
    return Compiled(calculate, time.perf_counter() - start)


@dataclass(frozen=True)
class Work:
    """Calculating the same scores several times, so that a turn takes long enough for the clock."""

    features_NF: Floats
    weights_F: Floats
    repeats: int

    def run(self, calculate: Calculation) -> list[float]:
        """Return the scores of the last of the repeats."""
        for _ in range(self.repeats):
            scores_N = calculate(self.features_NF, self.weights_F)
        return [float(scores_N.sum())]

    def check_equal(self, calculate: Calculation, other: Calculation) -> None:
        """Raise AssertionError if two ways differ in any score."""
        scores_N, others_N = (one(self.features_NF, self.weights_F) for one in (calculate, other))
        furthest = float(np.max(np.abs(scores_N - others_N)))
        assert furthest < _TOLERANCE * self.features_NF.shape[1], f"scores of chunks differ by {furthest}"

    @property
    def size(self) -> str:
        """Return the size for a table."""
        chunks, features = self.features_NF.shape
        return f"{chunks:,} × {features:,}, {self.repeats:,} times"


def random_work(chunks: int, features: int, repeats: int, seed: int) -> Work:
    """Return work on scores between 0 and 1."""
    drawn = np.random.default_rng(seed)
    return Work(drawn.random((chunks, features)), drawn.random(features), repeats)
