"""The fitted detector: the published formula, the grid, ensembles and thresholds."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from runtime_matrix.experiments.detector import grid
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.fitting import fit
from runtime_matrix.experiments.detector.measures import auc, f1
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import PUBLISHED, Setting
from runtime_matrix.experiments.detector.stored import read_scores
from tests.experiments.detector.made import made, published_scores


@pytest.mark.parametrize("is_rounded", [False, True])
@pytest.mark.parametrize(("layers", "top_layers"), [(6, 4), (6, 6), (1, 1)])
def test_the_published_formula_is_that_of_scikit_learn(layers: int, top_layers: int, is_rounded: bool) -> None:
    scores = made(layers=layers, is_rounded=is_rounded, signal=0.8)
    chunk_N, response_R = published_scores(scores, top_layers=top_layers)
    detector = fit(scores, Setting(top_layers=top_layers))
    assert detector.chunk_scores(scores) == pytest.approx(chunk_N)
    assert detector.response_scores(scores) == pytest.approx(response_R)
    expected = roc_auc_score(scores.is_unsupported_R, response_R)
    assert auc(scores.is_unsupported_R, detector.response_scores(scores)) == pytest.approx(expected)


def test_a_published_log_gives_the_published_figures(data_folder: Path) -> None:
    scores = read_scores(data_folder / "redeep" / "llama2_7b_response_chunk.json")
    detector = fit(scores, PUBLISHED)
    assert round(auc(scores.is_unsupported_R, detector.response_scores(scores)), 4) == 0.6885
    assert round(auc(scores.is_unsupported_N, detector.chunk_scores(scores)), 4) == 0.5985
    assert detector.notes == ("4 layers were asked for: the only layer is used",)


def test_ranges_are_those_of_the_fitting_part() -> None:
    scores = made()
    first, second = scores.part(range(30)), scores.part(range(30, 60))
    detector = fit(first, PUBLISHED)
    both = detector.chunk_scores(scores)
    assert np.concatenate([detector.chunk_scores(first), detector.chunk_scores(second)]) == pytest.approx(both)
    assert not np.allclose(fit(scores, PUBLISHED).chunk_scores(scores), both)


def test_weights_are_applied() -> None:
    scores = made()
    context, knowledge = fit(scores, Setting(alpha=1, m=0)), fit(scores, Setting(alpha=0, m=1))
    expected = 2 * knowledge.chunk_scores(scores) + 0.5 * context.chunk_scores(scores)
    assert fit(scores, Setting(alpha=0.5, m=2)).chunk_scores(scores) == pytest.approx(expected)


def test_the_grid_finds_the_best_setting() -> None:
    scores = made(responses=24, heads=3, layers=2, signal=0.3)

    def reached(setting: Setting) -> float:
        return auc(scores.is_unsupported_R, fit(scores, setting).response_scores(scores))

    every = itertools.product((1, 2, 3), (1, 2), grid.ALPHAS, grid.MS)
    settings = [Setting(top_heads=a, top_layers=b, alpha=c, m=d) for a, b, c, d in every]
    best = max(map(reached, settings))
    found = fit(scores, Setting(search="grid"))
    assert reached(Setting(search="grid")) == pytest.approx(best)
    assert best > reached(PUBLISHED)
    first = next(one for one in settings if reached(one) == pytest.approx(best, abs=1e-12))
    assert (len(found.heads), len(found.layers), found.alpha, found.m) == (
        first.top_heads,
        first.top_layers,
        first.alpha,
        first.m,
    )


def test_the_grid_is_quick() -> None:
    scores = made(responses=450, heads=32, layers=32)
    start = time.process_time()
    fit(scores, Setting(search="grid"))
    assert time.process_time() - start < 2  # 0.1 s on one core


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    scores = made()
    detector = fit(scores, Setting(ensemble=3))
    alone = []
    for member in detector.context:
        names = tuple(scores.heads[head] for head in member.columns)
        alone.append(fit(scores, Setting(heads="fixed", fixed_heads=names)).chunk_scores(scores))
    assert detector.chunk_scores(scores) == pytest.approx(np.mean(alone, axis=0))
    searched = fit(scores, Setting(ensemble=3, search="grid"))
    reached = [auc(scores.is_unsupported_R, one.response_scores(scores)) for one in (searched, detector)]
    assert reached[0] >= reached[1]


def test_the_threshold_is_half_of_the_range_or_where_f1_is_best() -> None:
    scores = made(signal=0.5)
    label_R, half, best = scores.is_unsupported_R, fit(scores, PUBLISHED), fit(scores, Setting(threshold="f1"))
    scores_R = half.response_scores(scores)
    scaled_R = (scores_R - scores_R.min()) / np.ptp(scores_R)
    assert half.predictions(scores).tolist() == (scaled_R >= 0.5).tolist()
    precision, recall, _ = precision_recall_curve(label_R, scores_R)
    of_curve = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert f1(label_R, best.predictions(scores)) == pytest.approx(of_curve.max())
    assert (scaled_R >= best.scaled_threshold - 1e-9).tolist() == best.predictions(scores).tolist()


@pytest.mark.parametrize(
    ("setting", "notes"),
    [
        (Setting(top_heads=3, top_layers=2), []),
        (Setting(top_heads=9), ["9 heads were asked for: all 3 are used", "4 layers were asked for: all 2 are used"]),
        (Setting(search="grid"), ["up to 7 heads were asked for: all 3", "up to 7 layers were asked for: all 2"]),
    ],
)
def test_what_cannot_be_had_is_noted(setting: Setting, notes: list[str]) -> None:
    found = fit(made(heads=3, layers=2), setting).notes
    assert len(found) == len(notes)
    assert all(line.startswith(note) for line, note in zip(found, notes, strict=True))


def test_a_sum_that_is_the_same_everywhere_adds_nothing() -> None:
    scores = made()
    flat = replace(scores, parametric_knowledge_NL=np.ones_like(scores.parametric_knowledge_NL))
    detector = fit(flat, PUBLISHED)
    assert "the sum of the chosen layers is the same in all chunks and adds nothing" in detector.notes
    context = fit(scores, Setting(m=0)).chunk_scores(scores)
    assert detector.chunk_scores(flat) == pytest.approx(context)


@pytest.mark.parametrize("label", [False, True])
def test_labels_of_one_class_are_refused(label: bool) -> None:
    scores = made()
    same = replace(scores, is_unsupported_N=np.full(len(scores.response_N), label))
    kind = "unsupported" if label else "supported"
    with pytest.raises(DetectionError, match=f"^all 60 responses are {kind}: a detector needs"):
        fit(same, PUBLISHED)


def test_scores_of_other_heads_are_refused() -> None:
    detector = fit(made(heads=12), PUBLISHED)
    with pytest.raises(DetectionError, match="other heads or layers"):
        detector.chunk_scores(made(heads=11))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heads": "auk"}, "did you mean 'auc'"),
        ({"top_heads": 0}, "top_heads must be at least 1; found 0"),
        ({"ensemble": 10**9}, "ensemble must be at most 1000"),
        ({"alpha": float("nan")}, "alpha must be a number of at least 0; found nan"),
        ({"m": -1.0}, "m must be a number"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"heads": "fixed"}, "needs the names of heads"),
        ({"fixed_heads": ("(0, 0)",)}, "needs the names of heads"),
        ({"heads": "fixed", "fixed_heads": ("(0, 0)",), "ensemble": 2}, "chooses none"),
    ],
)
def test_settings_are_checked(options: dict[str, object], reason: str) -> None:
    with pytest.raises(DetectionError, match=reason):
        Setting(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sources": ("a",)}, "sources has the shape"),
        ({"heads": ()}, "external_context_NH has the shape"),
        ({"responses": tuple("abcdefg"), "sources": tuple("abcdefg"), "baselines": {}}, "each response needs"),
        ({"baselines": {"nll": np.full(6, np.inf)}}, "not finite"),
        ({"response_N": np.zeros(0, dtype=int)}, "has the shape"),
    ],
)
def test_scores_that_do_not_fit_together_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(DetectionError, match=reason):
        replace(made(responses=6), **change)  # type: ignore[arg-type]


def test_a_part_keeps_the_order_that_is_asked_for() -> None:
    scores = made(responses=8)
    part: Scores = scores.part([5, 2])
    assert part.responses == ("r5", "r2")
    assert part.is_unsupported_R.tolist() == scores.is_unsupported_R[[5, 2]].tolist()
    mean = scores.external_context_NH[scores.response_N == 5].mean(axis=0)
    assert part.external_context_NH[part.response_N == 0].mean(axis=0) == pytest.approx(mean)
    assert part.baselines["length"].tolist() == scores.baselines["length"][[5, 2]].tolist()
