"""Two scores of the same responses: which are compared, and on which halves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime_matrix.experiments.detector.cross_fitting import cross_fitted
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.pairing import Difference, paired
from runtime_matrix.experiments.detector.setting import PUBLISHED
from tests.experiments.detector.made import made


def parts(difference: Difference) -> list[float]:
    found = (difference.first, difference.second, difference.difference)
    return [part.estimate for part in found if part is not None]


def test_a_file_does_not_differ_from_itself() -> None:
    scores = made()
    shuffled = scores.part(np.random.default_rng(0).permutation(60))
    found = paired(scores, shuffled, PUBLISHED, seed=0)
    assert (found.responses, found.notes) == (60, ())
    assert found.held_out.difference is not None
    assert found.held_out.difference.low == found.held_out.difference.high == 0
    figures = cross_fitted(scores, PUBLISHED, seed=0)
    assert found.held_out.first == figures.held_out.figures.auc
    assert found.in_sample.first == figures.in_sample.figures.auc


def test_the_difference_is_of_the_same_responses_under_the_same_labels() -> None:
    better, worse = made(signal=1.5), made(signal=0.1)
    labels = worse.is_unsupported_N.copy()
    labels[worse.response_N == 1] ^= True
    worse = replace(worse, is_unsupported_N=labels).part(range(1, 60))
    found = paired(better.part(range(58)), worse, PUBLISHED, seed=0, splits=2)
    assert found.responses == 56
    assert found.notes == (
        "1 response left out: only in the first file",
        "2 responses left out: only in the second file",
        "1 response left out: supported in one file and unsupported in the other",
    )
    first, second, difference = parts(found.held_out)
    assert difference == pytest.approx(first - second)
    assert found.held_out.difference is not None
    assert found.held_out.difference.low > 0


def test_files_of_other_responses_are_refused() -> None:
    scores = made()
    with pytest.raises(DetectionError, match=r"no response in common .* 60 responses left out: only in the first file"):
        paired(scores, replace(scores, responses=tuple(f"x{index}" for index in range(60))), PUBLISHED, seed=0)
    with pytest.raises(DetectionError, match="ids of responses occur twice in the second file"):
        paired(scores, replace(scores, responses=("r0",) * 60), PUBLISHED, seed=0)
