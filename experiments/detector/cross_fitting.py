"""Judge each half of the responses with the detector that was fitted on the other half.

A detector that is judged on the responses that chose its heads, weights or threshold looks better than it is; such
figures are called in-sample. N chunks, R responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtime_matrix.experiments.detector.bootstrap import Bootstrap
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.fitting import Detector, fit
from runtime_matrix.experiments.detector.measures import (
    weighted_auc,
    weighted_average_precision,
    weighted_f1,
    weighted_pearson,
)
from runtime_matrix.experiments.detector.scores import Bools, Floats, Ints, Scores, check_both_classes
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.statistics.interval import Interval


@dataclass(frozen=True)
class Figures:
    """How well responses, and chunks, are judged; None where a figure is undefined, as when all scores are equal."""

    auc: Interval | None
    average_precision: Interval | None
    f1: Interval | None
    pearson: Interval | None
    chunk_auc: Interval | None


@dataclass(frozen=True, eq=False)
class Judged:
    """The scores and predictions of responses that were judged by one detector per fold."""

    fold_R: Ints
    detectors: tuple[Detector, ...]  # by fold
    response_scores_R: Floats
    predictions_R: Bools
    chunk_scores_N: Floats
    figures: Figures  # means of the folds'


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """The held-out and the in-sample judgement of one setting, and the AUC of baselines (mean of the same halves)."""

    held_out: Judged  # fold 0 was judged by the detector fitted on fold 1, and the reverse
    in_sample: Judged  # fitted and judged on all responses: one fold
    baselines: Mapping[str, Interval | None]
    notes: tuple[str, ...]

    @property
    def fold_R(self) -> Ints:
        """Return the half of each response, 0 or 1."""
        return self.held_out.fold_R

    @property
    def response_scores_R(self) -> Floats:
        """Return the held-out score of each response."""
        return self.held_out.response_scores_R

    @property
    def predictions_R(self) -> Bools:
        """Return which responses are judged unsupported, held out."""
        return self.held_out.predictions_R

    @property
    def chunk_scores_N(self) -> Floats:
        """Return the held-out score of each chunk."""
        return self.held_out.chunk_scores_N

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """Return the detectors that judged the halves."""
        return self.held_out.detectors


def cross_fitted(scores: Scores, setting: Setting, seed: int) -> CrossFitted:
    """Fit and judge a setting on two halves and in-sample. `seed` is that of the split and of the bootstrap.

    DetectionError for labels of one class, or for fewer responses than two halves need.
    """
    fold_R = halves(scores, seed)
    held_out = judged(scores, setting, fold_R, seed)
    in_sample = judged(scores, setting, np.zeros_like(fold_R), seed)
    bootstrap = Bootstrap(fold_R, scores.sources, seed)
    baselines = {
        name: bootstrap.interval(weighted_auc, scores.is_unsupported_R, values_R)
        for name, values_R in scores.baselines.items()
    }
    detectors = (*in_sample.detectors, *held_out.detectors)
    notes = tuple(dict.fromkeys(note for detector in detectors for note in detector.notes))
    return CrossFitted(held_out, in_sample, baselines, notes)


def judged(scores: Scores, setting: Setting, fold_R: Ints, seed: int) -> Judged:
    """Judge each fold with the detector fitted on the others; with one fold, in-sample."""
    response_scores_R, predictions_R = np.zeros(len(fold_R)), np.zeros(len(fold_R), dtype=bool)
    chunk_scores_N = np.zeros(len(scores.response_N))
    folds, detectors = np.unique(fold_R), []
    for fold in folds:
        fitting_R = fold_R != fold if len(folds) > 1 else np.ones(len(fold_R), dtype=bool)
        detector = fit(scores.part(np.flatnonzero(fitting_R)), setting)
        is_judged_R = fold_R == fold
        response_scores_R[is_judged_R] = detector.response_scores(scores)[is_judged_R]
        predictions_R[is_judged_R] = detector.predictions(scores)[is_judged_R]
        is_judged_N = is_judged_R[scores.response_N]
        chunk_scores_N[is_judged_N] = detector.chunk_scores(scores)[is_judged_N]
        detectors.append(detector)
    bootstrap, labels_R = Bootstrap(fold_R, scores.sources, seed), scores.is_unsupported_R
    figures = Figures(
        auc=bootstrap.interval(weighted_auc, labels_R, response_scores_R),
        average_precision=bootstrap.interval(weighted_average_precision, labels_R, response_scores_R),
        f1=bootstrap.interval(weighted_f1, labels_R, predictions_R.astype(float)),
        pearson=bootstrap.interval(weighted_pearson, labels_R, response_scores_R),
        chunk_auc=bootstrap.interval(weighted_auc, scores.is_unsupported_N, chunk_scores_N, scores.response_N),
    )
    return Judged(fold_R, tuple(detectors), response_scores_R, predictions_R, chunk_scores_N, figures)


def halves(scores: Scores, seed: int) -> Ints:
    """Return the half of each response, 0 or 1: all responses of a source in one, unsupported ones divided evenly.

    DetectionError for labels of one class, or if no half would have both.
    """
    check_both_classes(scores)
    labels_R = scores.is_unsupported_R
    names, source_R = np.unique(scores.sources, return_inverse=True)
    unsupported = np.bincount(source_R, weights=labels_R)
    supported = np.bincount(source_R, weights=~labels_R)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    # Sources with most responses first, so that small ones even out what they leave.
    order = sorted(
        shuffled.tolist(), key=lambda source: (unsupported[source] == 0, -unsupported[source], -supported[source])
    )
    fold_S, totals = np.zeros(len(names), dtype=np.int64), np.zeros((2, 2))
    for source in order:
        kinds = (0, 1) if unsupported[source] else (1, 0)  # unsupported responses are divided evenly first
        fold = min((0, 1), key=lambda half: tuple(totals[half][kind] for kind in kinds))
        fold_S[source] = fold
        totals[fold] += (unsupported[source], supported[source])
    if not totals.all():
        of_sources = f" of {len(names)} sources" if len(names) < len(labels_R) else ""
        raise DetectionError(
            f"{len(labels_R)} responses{of_sources}, {int(labels_R.sum())} of them unsupported, are too few: each half "
            "needs supported and unsupported ones, and a source stays in one half"
        )
    return fold_S[source_R]
