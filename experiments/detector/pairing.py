"""Compare two stored scores of the same responses, such as those of two runtimes.

Both are fitted and judged on the same halves, so the difference is that of the scores. R responses of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime_matrix.experiments.detector.bootstrap import Bootstrap, interval_of
from runtime_matrix.experiments.detector.cross_fitting import halves, judged, replicates
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.scores import Floats, Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.statistics.interval import Interval


@dataclass(frozen=True)
class Difference:
    """The AUC over responses of two scores, and the first minus the second; None where undefined."""

    first: Interval | None
    second: Interval | None
    difference: Interval | None


@dataclass(frozen=True)
class Paired:
    """Two scores of the same responses, judged held out and in-sample."""

    responses: int
    held_out: Difference
    in_sample: Difference
    notes: tuple[str, ...]


def paired(first: Scores, second: Scores, setting: Setting, seed: int, splits: int = 1) -> Paired:
    """Judge both on the responses that both have, under the same labels; others are left out and counted.

    DetectionError if ids occur twice, or if too few responses are left.
    """
    in_first, in_second = _indices(first, "first"), _indices(second, "second")
    common = [name for name in in_first if name in in_second]
    labels = [
        {name: bool(part.is_unsupported_R[at]) for name, at in index.items()}
        for part, index in ((first, in_first), (second, in_second))
    ]
    kept = [name for name in common if labels[0][name] == labels[1][name]]
    notes = []
    for count, reason in (
        (len(in_first) - len(common), "only in the first file"),
        (len(in_second) - len(common), "only in the second file"),
        (len(common) - len(kept), "supported in one file and unsupported in the other"),
    ):
        if count:
            notes.append(f"{count} response{'s' * (count != 1)} left out: {reason}")
    if not kept:
        raise DetectionError("; ".join(["the two files have no response in common that can be compared", *notes]))
    parts = (first.part([in_first[name] for name in kept]), second.part([in_second[name] for name in kept]))
    bootstrap = Bootstrap(parts[0].sources, seed)
    folds = [halves(parts[0], seed + split) for split in range(splits)]
    held_out, in_sample = (
        _difference(
            [
                replicates(bootstrap, part, [judged(part, setting, fold_R) for fold_R in folds_of], "auc")
                for part in parts
            ]
        )
        for folds_of in (folds, [np.zeros(len(kept), dtype=np.int64)])
    )
    return Paired(len(kept), held_out, in_sample, tuple(notes))


def _difference(values: Sequence[Floats]) -> Difference:
    first, second = values
    return Difference(interval_of(first), interval_of(second), interval_of(first - second))


def _indices(scores: Scores, which: str) -> dict[str, int]:
    indices = {name: index for index, name in enumerate(scores.responses)}
    if len(indices) < len(scores.responses):
        raise DetectionError(f"ids of responses occur twice in the {which} file, so responses cannot be paired")
    return indices
