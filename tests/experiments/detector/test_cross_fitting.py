"""Halves of the responses, each judged by the detector of the other; and what choosing on the judged ones shows."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from runtime_matrix.experiments.detector.cross_fitting import Figures, cross_fitted, halves
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.fitting import fit
from runtime_matrix.experiments.detector.measures import auc, average_precision, f1, pearson
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import PUBLISHED, Setting
from runtime_matrix.experiments.statistics.interval import Interval
from tests.experiments.detector.made import made


def estimate(interval: Interval | None) -> float:
    assert interval is not None
    return interval.estimate


@pytest.mark.parametrize("per_source", [1, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_a_source_stays_in_one_half_and_labels_are_divided_evenly(seed: int, per_source: int) -> None:
    scores = made(responses=60, per_source=per_source, seed=seed)
    fold = halves(scores, seed)
    of_source: dict[str, set[int]] = {}
    for source, half in zip(scores.sources, fold.tolist(), strict=True):
        of_source.setdefault(source, set()).add(half)
    assert all(len(found) == 1 for found in of_source.values())
    for label in (True, False):
        counts = np.bincount(fold[scores.is_unsupported_R == label], minlength=2)
        assert abs(counts[0] - counts[1]) <= per_source


def test_halves_depend_on_the_seed() -> None:
    found = [halves(made(), seed).tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_each_half_is_judged_by_the_detector_of_the_other() -> None:
    scores = made(signal=0.6)
    crossed = cross_fitted(scores, PUBLISHED, seed=3)
    aucs = []
    for half in (0, 1):
        is_judged = crossed.fold_R == half
        detector = fit(scores.part(np.flatnonzero(~is_judged)), PUBLISHED)
        judged = scores.part(np.flatnonzero(is_judged))
        assert crossed.response_scores_R[is_judged] == pytest.approx(detector.response_scores(judged))
        assert crossed.predictions_R[is_judged].tolist() == detector.predictions(judged).tolist()
        chunks = crossed.chunk_scores_N[is_judged[scores.response_N]]
        assert chunks == pytest.approx(detector.chunk_scores(judged))
        assert crossed.detectors[half].heads == detector.heads
        aucs.append(auc(judged.is_unsupported_R, detector.response_scores(judged)))
    assert estimate(crossed.held_out.figures.auc) == pytest.approx(np.mean(aucs))


def test_in_sample_figures_are_those_of_all_responses() -> None:
    scores = made()
    figures, detector = cross_fitted(scores, PUBLISHED, seed=0).in_sample.figures, fit(scores, PUBLISHED)
    label_R, scores_R = scores.is_unsupported_R, detector.response_scores(scores)
    expected = {
        "auc": auc(label_R, scores_R),
        "average_precision": average_precision(label_R, scores_R),
        "f1": f1(label_R, detector.predictions(scores)),
        "pearson": pearson(label_R, scores_R),
        "chunk_auc": auc(scores.is_unsupported_N, detector.chunk_scores(scores)),
    }
    assert set(expected) == {part.name for part in fields(Figures)}
    for name, value in expected.items():
        interval = getattr(figures, name)
        assert interval.estimate == pytest.approx(value)
        assert interval.low < value < interval.high


def test_choosing_on_noise_shows_in_sample_only() -> None:
    held_out, in_sample = [], []
    for seed in range(12):
        scores = made(responses=60, heads=64, layers=32, seed=seed, signal=0)
        crossed = cross_fitted(scores, Setting(search="grid"), seed)
        held_out.append(estimate(crossed.held_out.figures.auc))
        in_sample.append(estimate(crossed.in_sample.figures.auc))
    assert abs(np.mean(held_out) - 0.5) < 0.05  # its standard error is 0.02
    assert min(in_sample) > 0.65


def test_several_splits_are_averaged() -> None:
    scores = made(signal=0.5)
    alone = [estimate(cross_fitted(scores, PUBLISHED, seed).held_out.figures.auc) for seed in (0, 1, 2)]
    several = cross_fitted(scores, PUBLISHED, seed=0, splits=3)
    assert len(several.held_out.splits) == 3
    assert estimate(several.held_out.figures.auc) == pytest.approx(np.mean(alone))


def test_baselines_are_judged_on_the_same_halves() -> None:
    scores = made()
    known = replace(scores, baselines={"label": scores.is_unsupported_R.astype(float), "same": np.zeros(60)})
    crossed = cross_fitted(known, PUBLISHED, seed=0)
    assert {name: estimate(interval) for name, interval in crossed.baselines.items()} == {"label": 1.0, "same": 0.5}


def of_labels(labels: list[bool], sources: str) -> Scores:
    scores = made(responses=len(labels))
    return replace(scores, is_unsupported_N=np.array(labels)[scores.response_N], sources=tuple(sources))


@pytest.mark.parametrize(
    ("labels", "sources", "reason"),
    [
        ([True] * 6, "abcdef", "all 6 responses are unsupported"),
        ([False] * 6, "abcdef", "all 6 responses are supported"),
        ([True] + [False] * 5, "abcdef", "6 responses, 1 of them unsupported, are too few: each half needs"),
        ([True, False] * 3, "aaaaaa", "6 responses of 1 sources, 3 of them unsupported, are too few"),
    ],
)
def test_too_few_responses_are_one_line(labels: list[bool], sources: str, reason: str) -> None:
    with pytest.raises(DetectionError, match=reason):
        cross_fitted(of_labels(labels, sources), PUBLISHED, seed=0)


def test_four_responses_are_enough() -> None:
    figures = cross_fitted(of_labels([True, False, True, False], "abcd"), PUBLISHED, seed=0).held_out.figures
    assert 0 <= estimate(figures.auc) <= 1
