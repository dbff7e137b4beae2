"""A loop, NumPy and Numba calculate the same scores; Numba may be missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from runtime_matrix.experiments.detector.fitting import fit
from runtime_matrix.experiments.detector.measures import auc
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.validation.score_calculation import (
    INSTALL,
    by_loop,
    by_numpy,
    compiled,
    grid_switch,
    random_work,
    switches,
)


def scores(responses: int = 30, heads: int = 3, layers: int = 2) -> Scores:
    """Return random scores of one chunk per response."""
    drawn = np.random.default_rng(0)
    names = tuple(map(str, range(responses)))
    return Scores(
        external_context_NH=drawn.random((responses, heads)),
        parametric_knowledge_NL=drawn.random((responses, layers)),
        is_unsupported_N=np.arange(responses) % 2 == 0,
        response_N=np.arange(responses),
        responses=names,
        sources=names,
        heads=tuple(f"(0, {head})" for head in range(heads)),
        layers=tuple(f"layer_{layer}" for layer in range(layers)),
    )


def test_a_loop_and_numpy_calculate_the_same() -> None:
    work = random_work(50, 7, 2, seed=1)
    work.check_equal(by_loop, by_numpy)
    assert work.run(by_loop) == pytest.approx(work.run(by_numpy))
    assert work.size == "50 × 7, 2 times"
    with pytest.raises(AssertionError, match="scores of chunks differ by"):
        work.check_equal(by_numpy, lambda features_NF, weights_F: by_numpy(features_NF, weights_F) + 1e-6)


def test_numba_calculates_the_same_where_it_is_installed() -> None:
    pytest.importorskip("numba")
    made = compiled()
    assert made is not None
    assert made.compile_s > 0
    random_work(50, 7, 1, seed=1).check_equal(made.calculate, by_loop)


def test_without_numba_its_switches_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled() is None
    found = {switch.name: switch.unsupported for switch in switches(scores(), seed=0)}
    assert {name for name, reason in found.items() if reason is None} == {"scores by NumPy", "scores by NumPy, large"}
    assert {reason for name, reason in found.items() if "Numba" in name} == {INSTALL}


def test_a_grid_search_finds_the_best_of_its_points() -> None:
    switch = grid_switch(scores())
    assert switch.work == "240 points, 30 responses"
    assert switch.on() == pytest.approx(switch.off())
    own = scores()
    plain = auc(own.is_unsupported_R, fit(own, Setting()).response_scores(own))
    assert switch.on()[0] >= plain
