from __future__ import annotations

import random

import pytest

from runtime_matrix.experiments.statistics.power import detectable_loss, passing_margin
from runtime_matrix.experiments.statistics.shares import paired_proportions

ITEMS, FLIPS, LEVEL = 800, 0.05, 0.9


def _changed(source: random.Random, worse: float) -> tuple[int, int]:
    changed = round(FLIPS * ITEMS)
    count = sum(source.random() < worse for _ in range(changed))
    return count, changed - count


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_the_detectable_loss_is_found_as_often_as_promised(margin: float) -> None:
    loss, source, found = detectable_loss(ITEMS, FLIPS, margin, LEVEL), random.Random(0), 0
    for _ in range(300):
        draws = [source.random() for _ in range(ITEMS)]
        worse = sum(draw < loss + FLIPS / 2 for draw in draws)
        better = sum(draw > 1 - FLIPS / 2 for draw in draws)
        found += paired_proportions(worse, better, ITEMS, LEVEL).low > margin
    assert 0.7 < found / 300 < 0.88


def test_equal_answers_meet_the_passing_margin_as_often_as_promised() -> None:
    margin, source = passing_margin(ITEMS, FLIPS, LEVEL), random.Random(0)
    passed = sum(paired_proportions(*_changed(source, 0.5), ITEMS, LEVEL).high <= margin for _ in range(400))
    assert 0.76 < passed / 400 < 0.95  # the number of changed answers is whole, so it is a little more than 80 %


def test_few_items_show_no_loss() -> None:
    assert detectable_loss(3, 0.1, 0.9, LEVEL) > 1


def test_more_items_show_smaller_differences() -> None:
    losses = [detectable_loss(items, FLIPS, 0.01, LEVEL) for items in (300, 1319, 14042)]
    margins = [passing_margin(items, FLIPS, LEVEL) for items in (300, 1319, 14042)]
    assert losses == sorted(losses, reverse=True)
    assert margins == sorted(margins, reverse=True)
