"""The score of each chunk, a weighted sum of its features, in three ways: a loop, NumPy and Numba.

Only NumPy's is used elsewhere. The others are what the Optimization Guide compares: a loop over rows in Python, and the
same loop compiled.
"""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.detector import grid
from runtime_matrix.experiments.detector.fitting import fit
from runtime_matrix.experiments.detector.measures import auc
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.validation.ablation import Switch

# N chunks, F features: heads and layers
Floats = NDArray[np.float64]
Calculation = Callable[[Floats, Floats], Floats]
_LARGE = (20_000, 512)  # chunks and features
_LARGE_REPEATS = 15
_ROWS_PER_TURN = 400_000  # of features, a fifth of a second for the loop
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
    version: str

    @property
    def phrase(self) -> str:
        """Return what the switches of it leave out, for a table."""
        return f"Numba {self.version}, without {self.compile_s:.1f} s of importing and compiling"


def compiled() -> Compiled | None:
    """Compile the loop. None if Numba is not installed."""
    start = time.perf_counter()
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        return None
    calculate: Calculation = numba.njit(by_loop)
    calculate(np.ones((2, 2)), np.ones(2))  # the first call compiles
    return Compiled(calculate, time.perf_counter() - start, str(numba.__version__))


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


def switches(scores: Scores, seed: int) -> list[Switch]:
    """Return the switches of calculating scores, of these chunks and of more and longer ones."""
    features_NF = np.hstack([scores.external_context_NH, scores.parametric_knowledge_NL])
    weights_F = np.random.default_rng(seed).random(features_NF.shape[1])
    own = Work(np.ascontiguousarray(features_NF), weights_F, max(1, _ROWS_PER_TURN // len(features_NF)))
    large = random_work(*_LARGE, _LARGE_REPEATS, seed)
    numba = compiled()
    by_numba = numba.calculate if numba is not None else None
    ways: list[tuple[str, Work, Calculation | None, Calculation]] = [
        ("scores by NumPy", own, by_numpy, by_loop),
        ("scores by NumPy, large", large, by_numpy, by_loop),
        ("scores by Numba", own, by_numba, by_loop),
        ("scores by Numba, large", large, by_numba, by_loop),
        ("scores by Numba instead of NumPy", own, by_numba, by_numpy),
        ("scores by Numba instead of NumPy, large", large, by_numba, by_numpy),
    ]
    return [_switch(*way, numba) for way in ways]


def _switch(name: str, work: Work, on: Calculation | None, off: Calculation, numba: Compiled | None) -> Switch:
    if on is None:
        return Switch(name, list, list, unsupported=INSTALL)
    work.check_equal(on, off)
    by_numba = numba is not None and on is numba.calculate
    text = f"{work.size}; {numba.phrase}" if numba is not None and by_numba else work.size
    return Switch(name, partial(work.run, on), partial(work.run, off), work=text)


def grid_switch(scores: Scores) -> Switch:
    """Return the switch of the grid search: sums of heads and layers that are calculated once, or a fit per point."""

    def searched() -> list[float]:
        return [_auc(scores, Setting(search="grid"))]

    def looped() -> list[float]:
        return [max(_auc(scores, point) for point in _points(scores))]

    points = sum(1 for _ in _points(scores))
    return Switch(
        "grid search by stored sums", searched, looped, 2, f"{points:,} points, {len(scores.responses)} responses"
    )


def _points(scores: Scores) -> Iterator[Setting]:
    heads, layers = ([count for count in grid.TOP if count <= len(names)] for names in (scores.heads, scores.layers))
    for top_heads, top_layers, alpha, m in itertools.product(heads, layers, grid.ALPHAS, grid.MS):
        yield Setting(top_heads=top_heads, top_layers=top_layers, alpha=alpha, m=m)


def _auc(scores: Scores, setting: Setting) -> float:
    return auc(scores.is_unsupported_R, fit(scores, setting).response_scores(scores))
