"""Which heads and layers are chosen: by AUC, by mutual information, at random, by name, and in an ensemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, roc_auc_score

from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.selection import (
    BINS,
    bins_of,
    mutual_information,
    named_heads,
    ranked_heads,
    ranked_layers,
)
from runtime_matrix.experiments.detector.setting import Setting
from tests.experiments.detector.made import made


def test_heads_and_layers_are_ranked_by_auc() -> None:
    scores = made(is_rounded=True)
    label = scores.is_unsupported_N
    of_heads = [roc_auc_score(~label, column) for column in scores.external_context_NH.T]
    of_layers = [roc_auc_score(label, column) for column in scores.parametric_knowledge_NL.T]
    (ranked,) = ranked_heads(scores, Setting())
    assert ranked.tolist() == np.argsort(-np.array(of_heads), kind="stable").tolist()
    assert ranked_layers(scores).tolist() == np.argsort(-np.array(of_layers), kind="stable").tolist()


def test_of_equal_heads_the_first_is_chosen() -> None:
    scores = made(heads=3)
    same = replace(scores, external_context_NH=scores.external_context_NH[:, [2, 0, 0]])
    assert ranked_heads(same, Setting())[0].tolist()[:2] == [1, 2]


@pytest.mark.parametrize("is_rounded", [False, True])
def test_mutual_information_is_that_of_scikit_learn_on_the_same_bins(is_rounded: bool) -> None:
    scores = made(responses=80, is_rounded=is_rounded)
    label, values = scores.is_unsupported_N, scores.external_context_NH
    expected = [mutual_info_score(label, bins_of(column)) for column in values.T]
    assert mutual_information(label, values) == pytest.approx(expected)
    (ranked,) = ranked_heads(scores, Setting(heads="mutual_information"))
    assert ranked.tolist() == np.argsort(-np.array(expected), kind="stable").tolist()


def test_bins_have_equal_counts_and_equal_values_share_one() -> None:
    values = np.random.default_rng(0).permutation(100).astype(float)
    assert np.bincount(bins_of(values)).tolist() == [100 // BINS] * BINS
    few = np.repeat([1.0, 2.0, 3.0], [5, 60, 35])
    assert all(len(np.unique(bins_of(few)[few == value])) == 1 for value in (1.0, 2.0, 3.0))
    assert np.unique(bins_of(np.ones(9))).tolist() == [0]


def test_random_heads_depend_on_the_seed_alone() -> None:
    scores = made(heads=50)
    drawn = [ranked_heads(scores, Setting(heads="random", seed=seed))[0][:3].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_heads_are_named_whatever_the_spaces() -> None:
    scores = made(heads=6)
    assert named_heads(scores.heads, ["(2,1)", "( 0, 0 )", "(2, 1)"]).tolist() == [5, 0]
    with pytest.raises(DetectionError, match=r"no head \(9, 9\); there are 6, from \(0, 0\) to \(2, 1\)"):
        named_heads(scores.heads, ["(9, 9)"])


@pytest.mark.parametrize(("heads", "top"), [(12, 3), (5, 4), (2, 3), (1, 1)])
def test_members_of_an_ensemble_choose_from_halves_of_the_heads(heads: int, top: int) -> None:
    scores = made(heads=heads)
    (ranked,) = ranked_heads(scores, Setting())
    members = ranked_heads(scores, Setting(ensemble=8, top_heads=top))
    assert len(members) == 8
    for member in members:
        assert len(member) == min(heads, max(top, -(-heads // 2)))
        assert member.tolist() == [head for head in ranked.tolist() if head in set(member.tolist())]
    assert heads < 5 or len({tuple(member.tolist()) for member in members}) > 1
