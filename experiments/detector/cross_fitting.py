"""Judge each half of the responses with the detector that was fitted on the other half.

A detector that is judged on the responses that chose its heads, weights or threshold looks better than it is; such
figures are called in-sample. N chunks, R responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from runtime_matrix.experiments.detector.bootstrap import Bootstrap, interval_of
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
    """The scores and predictions of all responses; each fold was judged by one detector."""

    fold_R: Ints
    detectors: tuple[Detector, ...]  # by fold
    response_scores_R: Floats
    predictions_R: Bools
    chunk_scores_N: Floats


@dataclass(frozen=True, eq=False)
class Judgement:
    """The responses as they were judged in each split, and the figures: means over folds and splits."""

    splits: tuple[Judged, ...]
    figures: Figures


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """The held-out and the in-sample judgement of one setting, and the AUC of baselines (mean of the same halves)."""

    held_out: Judgement  # fold 0 was judged by the detector fitted on fold 1, and the reverse
    in_sample: Judgement  # fitted and judged on all responses: one split of one fold
    baselines: Mapping[str, Interval | None]
    notes: tuple[str, ...]

    @property
    def fold_R(self) -> Ints:
        """Return the half of each response in the first split, 0 or 1."""
        return self.held_out.splits[0].fold_R

    @property
    def response_scores_R(self) -> Floats:
        """Return the held-out score of each response in the first split."""
        return self.held_out.splits[0].response_scores_R

    @property
    def predictions_R(self) -> Bools:
        """Return which responses are judged unsupported, held out, in the first split."""
        return self.held_out.splits[0].predictions_R

    @property
    def chunk_scores_N(self) -> Floats:
        """Return the held-out score of each chunk in the first split."""
        return self.held_out.splits[0].chunk_scores_N

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """Return the detectors that judged the halves of the first split."""
        return self.held_out.splits[0].detectors


def cross_fitted(scores: Scores, setting: Setting, seed: int, splits: int = 1) -> CrossFitted:
    """Fit and judge a setting on two halves and in-sample.

    `seed` is that of the splits and of the bootstrap. Figures vary less with several splits, which are averaged.
    DetectionError for labels of one class, or for fewer responses than two halves need.
    """
    bootstrap = Bootstrap(scores.sources, seed)
    folds = [halves(scores, seed + split) for split in range(splits)]
    held_out = _judgement(bootstrap, scores, [judged(scores, setting, fold_R) for fold_R in folds])
    in_sample = _judgement(bootstrap, scores, [judged(scores, setting, np.zeros_like(folds[0]))])
    baselines = {
        name: interval_of(
            _average(bootstrap.values(weighted_auc, scores.is_unsupported_R, values_R, fold_R) for fold_R in folds)
        )
        for name, values_R in scores.baselines.items()
    }
    every = [detector for part in (in_sample, held_out) for split in part.splits for detector in split.detectors]
    notes = tuple(dict.fromkeys(note for detector in every for note in detector.notes))
    return CrossFitted(held_out, in_sample, baselines, notes)


def judged(scores: Scores, setting: Setting, fold_R: Ints) -> Judged:
    """Judge each fold with the detector fitted on the others; with one fold, in-sample."""
    response_scores_R, predictions_R = np.zeros(len(fold_R)), np.zeros(len(fold_R), dtype=bool)
    chunk_scores_N = np.zeros(len(scores.response_N))
    folds, detectors = np.unique(fold_R), []
    for fold in folds:
        fitting = np.flatnonzero(fold_R != fold) if len(folds) > 1 else np.arange(len(fold_R))
        detector = fit(scores.part(fitting), setting)
        is_judged_R = fold_R == fold
        response_scores_R[is_judged_R] = detector.response_scores(scores)[is_judged_R]
        predictions_R[is_judged_R] = detector.predictions(scores)[is_judged_R]
        is_judged_N = is_judged_R[scores.response_N]
        chunk_scores_N[is_judged_N] = detector.chunk_scores(scores)[is_judged_N]
        detectors.append(detector)
    return Judged(fold_R, tuple(detectors), response_scores_R, predictions_R, chunk_scores_N)


def replicates(bootstrap: Bootstrap, scores: Scores, splits: Sequence[Judged], name: str) -> Floats:
    """Return a figure, a field of `Figures`, with its replicates behind it; the mean over splits."""
    if name == "chunk_auc":
        return _average(
            bootstrap.values(
                weighted_auc,
                scores.is_unsupported_N,
                split.chunk_scores_N,
                split.fold_R[scores.response_N],
                scores.response_N,
            )
            for split in splits
        )
    measure = _OF_RESPONSES[name]
    return _average(
        bootstrap.values(
            measure,
            scores.is_unsupported_R,
            split.predictions_R.astype(float) if name == "f1" else split.response_scores_R,
            split.fold_R,
        )
        for split in splits
    )


_OF_RESPONSES = {
    "auc": weighted_auc,
    "average_precision": weighted_average_precision,
    "f1": weighted_f1,
    "pearson": weighted_pearson,
}


def _judgement(bootstrap: Bootstrap, scores: Scores, splits: Sequence[Judged]) -> Judgement:
    names = [part.name for part in fields(Figures)]
    figures = {name: interval_of(replicates(bootstrap, scores, splits, name)) for name in names}
    return Judgement(tuple(splits), Figures(**figures))


def _average(values: Iterable[Floats]) -> Floats:
    mean: Floats = np.mean(list(values), axis=0)
    return mean


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
