"""What techniques gain over the published setting."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.detector.cross_fitting import cross_fitted
from runtime_matrix.experiments.detector.setting import PUBLISHED
from runtime_matrix.experiments.detector.techniques import gains, techniques
from runtime_matrix.experiments.ledger.claim import read_claims
from tests.experiments.detector.made import made


def test_gains_are_differences_of_the_figures_of_settings() -> None:
    scores = made(signal=0.4)
    chosen = techniques(scores.heads, seed=0)
    published, found = gains(scores, chosen, seed=0, splits=2)
    base = cross_fitted(scores, PUBLISHED, seed=0, splits=2)
    assert published["auc"].held_out == base.held_out.figures.auc
    assert published["f1"].in_sample == base.in_sample.figures.f1
    for technique, gain in zip(chosen, found, strict=True):
        figures = cross_fitted(scores, technique.setting, seed=0, splits=2)
        held_out, before = (getattr(one.held_out.figures, technique.figure) for one in (figures, base))
        assert gain.held_out == held_out
        assert gain.in_sample == getattr(figures.in_sample.figures, technique.figure)
        assert gain.difference is not None
        assert gain.ratio is not None
        assert gain.difference.estimate == pytest.approx(held_out.estimate - before.estimate)
        assert gain.ratio.estimate == pytest.approx(held_out.estimate / before.estimate)


def test_claims_of_techniques_are_known() -> None:
    known = {claim.id for claim in read_claims()}
    assert {technique.claim for technique in techniques(("(0, 0)",), seed=0)} - {None} <= known
