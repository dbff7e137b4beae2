"""Bootstrap intervals: their coverage, clusters, pairs and speed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from runtime_matrix.experiments.detector.bootstrap import Bootstrap, auc_difference, interval_of
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.measures import auc, weighted_auc
from runtime_matrix.experiments.detector.scores import Bools, Floats

TRUE_AUC = 0.76025  # of two normal distributions whose means differ by 1


def drawn(generator: np.random.Generator, responses: int, copies: int = 1) -> tuple[Bools, Floats, list[str]]:
    """Return labels, scores and sources; each source has `copies` equal responses."""
    label = np.arange(responses) % 2 == 0
    scores = generator.normal(size=responses) + label
    return (
        np.repeat(label, copies),
        np.repeat(scores, copies),
        [str(index // copies) for index in range(responses * copies)],
    )


@pytest.mark.parametrize("copies", [1, 4])
def test_an_interval_covers_the_true_auc(copies: int) -> None:
    generator, covered = np.random.default_rng(0), 0
    for trial in range(100):
        label, scores, sources = drawn(generator, 80, copies)
        values = Bootstrap(sources, trial, replicates=300).values(
            weighted_auc, label, scores, np.zeros(len(label), int)
        )
        interval = interval_of(values)
        assert interval is not None
        covered += interval.low <= TRUE_AUC <= interval.high
    assert 88 <= covered <= 100  # 95 of 100 but for chance; without clusters, four copies give 67


def test_the_figure_is_the_mean_of_the_folds() -> None:
    label, scores, sources = drawn(np.random.default_rng(1), 60)
    fold = np.arange(60) % 3
    values = Bootstrap(sources, 0).values(weighted_auc, label, scores, fold)
    expected = np.mean([auc(label[fold == name], scores[fold == name]) for name in range(3)])
    assert values[0] == pytest.approx(expected)
    assert len(values) == 2001


def test_chunks_are_drawn_with_their_responses() -> None:
    label, scores, sources = drawn(np.random.default_rng(2), 40)
    bootstrap = Bootstrap(sources, 3, replicates=50)
    response_N = np.repeat(np.arange(40), 3)
    fold = np.zeros(40, int)
    responses = bootstrap.values(weighted_auc, label, scores, fold)
    chunks = bootstrap.values(weighted_auc, label[response_N], scores[response_N], fold[response_N], response_N)
    assert chunks == pytest.approx(responses)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    generator = np.random.default_rng(4)
    label, scores, _ = drawn(generator, 200)
    fold, worse = np.arange(200) // 2 % 2, scores + 0.3 * generator.normal(size=200)
    difference = auc_difference(label, scores, worse, fold, seed=0)
    alone = interval_of(Bootstrap([str(index) for index in range(200)], 0).values(weighted_auc, label, scores, fold))
    assert alone is not None
    assert difference.half_width < alone.half_width
    assert difference.low < difference.estimate < difference.high
    rising: Floats = np.exp(scores)
    none = auc_difference(label, scores, rising, fold, seed=0)
    assert (none.low, none.estimate, none.high) == (0, 0, 0)


def test_the_same_seed_draws_the_same() -> None:
    label, scores, _ = drawn(np.random.default_rng(5), 50)
    fold = np.zeros(50, int)
    found = [auc_difference(label, scores, -scores, fold, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_a_fold_of_one_class_is_refused() -> None:
    label = np.array([True, True, False, False])
    with pytest.raises(DetectionError, match="labels of a fold are of one class"):
        auc_difference(label, np.zeros(4), np.zeros(4), np.array([0, 0, 1, 1]), seed=0)


def test_an_undefined_figure_has_no_interval() -> None:
    assert interval_of(np.array([np.nan, 0.5, 0.6])) is None
    assert interval_of(np.array([0.5, np.nan, np.nan])) is None
    assert interval_of(np.array([0.5, np.nan, 0.4])) is not None


def test_two_thousand_replicates_are_quick() -> None:
    label, scores, sources = drawn(np.random.default_rng(6), 1159)
    start = time.process_time()
    Bootstrap(sources, 0).values(weighted_auc, label, scores, np.zeros(1159, int))
    assert time.process_time() - start < 2  # 0.3 s on one core
