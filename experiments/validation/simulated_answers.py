"""Simulated answers with known losses: error rates of bounds and of gates of accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runtime_matrix.experiments.gates.axes.accuracy import loss_verdict
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.statistics.paired import loss, mean_interval
from runtime_matrix.experiments.statistics.shares import bounded_mean, exact_proportion, paired_proportions, upper_bound
from runtime_matrix.experiments.validation.simulation_table import Figure, chance, header, row

Drawn = np.random.Generator
_ITEMS = (400, 1060)
_LOSSES = (0.02, 0.03, 0.05)
_LEVEL = 1 - 0.05 / 7  # of one bound in conf/gate/ci.yaml with one cell
_MARGIN = 0.03
_FEW = 10  # differing items from which the earlier rule used a t interval


def sections(draws: int) -> Iterator[str]:
    """Yield the Markdown lines of all sections on answers."""
    for section in (_bounds, _accuracy, _texts, _single_cells):
        yield from ("", *section(draws))


def _bounds(draws: int) -> Iterator[str]:
    promised = 100 * (1 - _LEVEL)
    yield f"## Bounds of lost answers that lie below the true loss, ≤ {promised:.2f}"
    yield ""
    yield "Right or wrong; one item in 200 is won. Before: a t interval if ten items differ, else also an exact bound."
    yield ""
    yield from header("items", *(f"{100 * lost:g} % lost" for lost in _LOSSES), "none of them, just at the bound")
    for n in _ITEMS:
        figures = []
        for true_loss in _LOSSES:
            drawn = np.random.default_rng(2)
            counts = drawn.multinomial(n, [true_loss + 0.005, 0.005, 1 - true_loss - 0.01], 10 * draws)
            before, now = (
                100 * float(np.mean([high(int(first), int(second), n) < true_loss for first, second, _ in counts]))
                for high in (_high_before, _high_now)
            )
            figures.append(Figure(before, now, most=promised + chance(10 * draws)))
        old, new = upper_bound(0, n, 2 * _LEVEL - 1), exact_proportion(0, n, 2 * _LEVEL - 1).high
        figures.append(Figure(100 * (1 - old) ** n, 100 * (1 - new) ** n, most=promised + 1e-6))
        yield row(f"{n:,}", *figures)


@cache
def _high_now(first: int, second: int, n: int) -> float:
    return paired_proportions(first, second, n, 2 * _LEVEL - 1).high


@cache
def _high_before(first: int, second: int, n: int) -> float:
    values = np.repeat([1.0, -1.0, 0.0], [first, second, n - first - second])
    reach = special.stdtrit(n - 1, _LEVEL) * float(values.std(ddof=1)) / math.sqrt(n)
    high = float(values.mean()) + float(reach)
    return high if first + second >= _FEW else max(high, exact_proportion(first, n, 2 * _LEVEL - 1).high)


def _accuracy(draws: int) -> Iterator[str]:
    yield f"## Gates of accuracy that pass, margin {100 * _MARGIN:g} points"
    yield ""
    yield "Now. Before, a gate also passed by the right choice's probability, which decides nothing any more: with 3.6"
    yield "points lost 34 % did with 400 items and 17 % with 1,060, with 4.4 points 13 % (quoted from an audit)."
    yield ""
    truths = (0.0, 0.01, 0.03, 0.036, 0.044)
    columns = [f"{100 * true:g} points lost" + (", ≤ 0.71" if true >= _MARGIN else "") for true in truths]
    yield from header("items", *columns, "0 points lost, fail, ≤ 0.71")
    for n in _ITEMS:
        figures, fails = [], 0.0
        for true_loss in truths:
            drawn, most = np.random.default_rng(3), 100 * (1 - _LEVEL) + chance(draws)
            verdicts = [_verdict(drawn, n, true_loss) for _ in range(draws)]
            passes = 100 * verdicts.count("pass") / draws
            figures.append(Figure(None, passes, most if true_loss >= _MARGIN else None))
            if true_loss == 0:
                fails = 100 * verdicts.count("fail") / draws
        yield row(f"{n:,}", *figures, Figure(None, fails, most))


def _verdict(drawn: Drawn, n: int, true_loss: float) -> str:
    outcomes = drawn.choice([1.0, -1.0, 0.0], n, p=[true_loss + 0.01, 0.01, 0.98 - true_loss])
    reference = (outcomes >= 0).astype(float)
    loss_interval = loss((reference - outcomes).tolist(), reference.tolist(), None, 2 * _LEVEL - 1)
    return loss_verdict(loss_interval, _MARGIN)


def _texts(draws: int) -> Iterator[str]:
    yield "## Texts scored from 0 to 1: bounds below the true loss, ≤ 0.71, and their median in points"
    yield ""
    yield "Four of five that differ lose, a quarter of the score on average, some of them all of it."
    yield ""
    yield from header("items", "share that differs", "too low", "median bound")
    for n in (60, 220, 600):
        for share in (0.0, 0.02, 0.1, 0.3):
            drawn, most = np.random.default_rng(4), 100 * (1 - _LEVEL) + chance(draws // 10)
            ends: list[tuple[float, float]] = []
            for _ in range(max(20, draws // 10)):
                lost = drawn.beta(0.5, 1.5, n) * (drawn.random(n) < share)
                values = lost * np.where(drawn.random(n) < 0.8, 1, -1)
                ends.append((_text_before(values), bounded_mean(values.tolist(), 2 * _LEVEL - 1).high))
            true_loss, end_values = share * 0.25 * 0.6, np.asarray(ends)
            too_low = 100 * (end_values < true_loss).mean(axis=0)
            medians = 100 * np.median(end_values, axis=0)
            yield row(
                str(n), f"{100 * share:g} %", Figure(too_low[0], too_low[1], most), Figure(medians[0], medians[1])
            )


def _text_before(values: NDArray[np.float64]) -> float:
    interval = mean_interval(values.tolist(), 2 * _LEVEL - 1)
    assert interval is not None
    if np.count_nonzero(values) >= _FEW:
        return interval.high
    return max(interval.high, exact_proportion(int(np.sum(values > 0)), len(values), 2 * _LEVEL - 1).high)


def _single_cells(draws: int) -> Iterator[str]:
    yield "## Scores of single cells within 1.96 standard errors of the truth, nominally 95"
    yield ""
    yield "Before: as if all items were independent. With 8 subjects the error itself is uncertain: 95 % would take"
    yield "2.36 standard errors (t, 7 degrees of freedom)."
    yield ""
    yield from header("items", "within")
    kinds = {
        "150 questions, 2 a passage, mostly right or wrong together": (75, 2, 0.35, 0.77),
        "400 questions of 8 subjects that differ by some 15 points": (8, 50, 0.15, 0.7),
        "60 problems, 98 % solved": (60, 1, 0.0, 0.98),
    }
    for kind, (groups, size, spread, mean) in kinds.items():
        drawn, within = np.random.default_rng(7), np.zeros(2)
        names = np.repeat(np.arange(groups), size).tolist()
        for _ in range(draws):
            chances = _chances(drawn, groups, spread, mean)
            right = (drawn.random(groups * size) < np.repeat(chances, size)).astype(float)
            off = abs(float(right.mean()) - mean)
            before, now = float(right.std(ddof=1)) / math.sqrt(len(right)), standard_error(right.tolist(), names)
            assert now is not None
            within += [off <= 1.96 * before, off <= 1.96 * now]
        yield row(kind, Figure(*(100 * within / draws)))


def _chances(drawn: Drawn, groups: int, spread: float, mean: float) -> NDArray[np.float64]:
    """Return a chance per group, of this mean and standard deviation (beta distributed)."""
    if spread == 0:
        return np.full(groups, mean)
    weight = mean * (1 - mean) / spread**2 - 1
    return drawn.beta(weight * mean, weight * (1 - mean), groups)
