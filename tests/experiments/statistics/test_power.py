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


def test_the_detectable_loss_is_found_as_often_as_promised() -> None:
    loss = detectable_loss(ITEMS, FLIPS, LEVEL)
    assert loss is not None
    worse, source = (1 + loss / FLIPS) / 2, random.Random(0)
    found = sum(paired_proportions(*_changed(source, worse), ITEMS, LEVEL).low > 0 for _ in range(400))
    assert 0.74 < found / 400 < 0.86


def test_equal_answers_meet_the_passing_margin_as_often_as_promised() -> None:
    margin, source = passing_margin(ITEMS, FLIPS, LEVEL), random.Random(0)
    passed = sum(paired_proportions(*_changed(source, 0.5), ITEMS, LEVEL).high <= margin for _ in range(400))
    assert 0.76 < passed / 400 < 0.95  # the number of changed answers is whole, so it is a little more than 80 %


def test_few_changes_show_no_loss() -> None:
    assert detectable_loss(60, 0.02, LEVEL) is None
    assert detectable_loss(100, 0.0, LEVEL) is None


@pytest.mark.parametrize("function", [detectable_loss, passing_margin])
def test_more_items_show_smaller_differences(function: type) -> None:
    figures = [function(items, FLIPS, LEVEL) for items in (300, 1319, 14042)]
    assert figures == sorted(figures, reverse=True)
