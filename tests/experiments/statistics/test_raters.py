"""Cohen's kappa against values worked by hand, the coverage of its interval, and rank correlation within strata."""

from __future__ import annotations

import numpy as np
import pytest

from runtime_matrix.experiments.statistics.raters import kappa, rank_correlation


def test_kappa_of_a_known_table() -> None:
    """20 both yes, 5 only the first, 10 only the second, 15 both no: agreement 0.7, chance 0.5."""
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    interval = kappa(first, second)
    assert interval is not None
    assert interval.estimate == pytest.approx(0.4)
    assert interval.low < 0.17  # the analytic interval is 0.15 to 0.65
    assert interval.high > 0.63


def test_full_agreement_on_few_items_is_not_certain() -> None:
    interval = kappa([True, False] * 5, [True, False] * 5)
    assert interval is not None
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx((0.025 ** (1 / 10) - 0.5) / 0.5)


@pytest.mark.parametrize("value", [True, False])
def test_kappa_is_undefined_where_both_say_the_same_of_all(value: bool) -> None:
    assert kappa([value] * 9, [value] * 9) is None


def test_the_interval_of_kappa_holds_the_truth_as_often_as_promised() -> None:
    generator, hits = np.random.default_rng(5), 0
    for _ in range(60):
        truth = generator.random(80) < 0.7
        said = np.where(generator.random(80) < 0.15, ~truth, truth)
        interval = kappa(said.tolist(), truth.tolist())
        yes = 0.7 * 0.85 + 0.3 * 0.15
        chance = yes * 0.7 + (1 - yes) * 0.3
        assert interval is not None
        hits += interval.low <= (0.85 - chance) / (1 - chance) <= interval.high
    assert hits >= 53  # 57 expected


def test_items_of_one_cluster_count_as_one() -> None:
    first, second = [True, True, False, False, True, False] * 4, [True, False, False, True, True, False] * 4
    alone, clustered = kappa(first, second), kappa(first, second, [at % 6 for at in range(24)])
    assert alone is not None
    assert clustered is not None
    assert clustered.half_width > alone.half_width


def test_rank_correlation_within_strata_ignores_their_levels() -> None:
    first, second = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0], [3.0, 2.0, 1.0, 13.0, 12.0, 11.0]
    pooled, within = rank_correlation(first, second), rank_correlation(first, second, list("aaabbb"))
    assert pooled is not None
    assert within is not None
    assert pooled.estimate > 0.4
    assert within.estimate == pytest.approx(-1.0)


def test_rank_correlation_of_what_never_varies_is_none() -> None:
    assert rank_correlation([1.0] * 9, list(range(9))) is None
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None  # too few
