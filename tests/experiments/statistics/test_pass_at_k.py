"""pass@k for whole and for mean numbers of samples."""

from __future__ import annotations

from itertools import combinations

import pytest

from runtime_matrix.experiments.statistics.pass_at_k import pass_at, pass_at_k


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 0, 2), (5, 1, 2), (5, 5, 1), (7, 3, 4), (4, 2, 4)])
def test_pass_at_k_is_the_share_of_draws_with_a_success(samples: int, passed: int, k: int) -> None:
    draws = list(combinations([True] * passed + [False] * (samples - passed), k))
    assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_a_mean_number_of_samples_lies_between_whole_ones() -> None:
    one, two = pass_at_k(5, 2, 1), pass_at_k(5, 2, 2)
    assert pass_at(5, 2, 1.0) == one
    assert pass_at(5, 2, 1.25) == pytest.approx(0.75 * one + 0.25 * two)
    assert pass_at(5, 2, 5.0) == 1.0
