from __future__ import annotations

import random

import pytest

from runtime_matrix.experiments.statistics.tails import tail_difference


def test_each_bound_is_wrong_as_rarely_as_promised() -> None:
    source, draws = random.Random(0), 1500
    wrong = [0, 0]
    for _ in range(draws):
        interval = tail_difference([(source.gauss(0, 1), source.gauss(0, 1)) for _ in range(24)], 0.94)
        assert interval is not None
        wrong[0] += interval.low > 0
        wrong[1] += interval.high < 0
    assert max(wrong) / draws < 0.03 + 3 * (0.03 * 0.97 / draws) ** 0.5
    assert min(wrong) > 0  # the bounds are not so wide that they hold always


def test_a_wider_spread_around_the_same_centre_is_a_slow_tail() -> None:
    source = random.Random(1)
    wide = [(source.gauss(0, 0.3), source.gauss(0, 0.01)) for _ in range(40)]
    interval = tail_difference(wide, 0.99)
    assert interval is not None
    assert interval.low > 0.1
    narrow = tail_difference([(b, a) for a, b in wide], 0.99)
    assert narrow is not None
    assert narrow.high < 0.25


def test_a_shift_moves_the_interval() -> None:
    source = random.Random(2)
    pairs = [(source.gauss(0, 1), source.gauss(0, 1)) for _ in range(30)]
    before, after = (tail_difference([(a + shift, b) for a, b in pairs]) for shift in (0.0, 5.0))
    assert before is not None
    assert after is not None
    assert after.low - before.low == pytest.approx(5)
    assert after.high - before.high == pytest.approx(5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_pairs_show_nothing(count: int) -> None:
    assert tail_difference([(1.0, 2.0)] * count, 0.999) is None


def test_equal_values_have_no_tail() -> None:
    interval = tail_difference([(1.0, 1.0)] * 20, 0.99)
    assert interval is not None
    assert (interval.low, interval.estimate, interval.high) == (0, 0, 0)
