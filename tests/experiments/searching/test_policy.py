from __future__ import annotations

import pytest

from runtime_matrix.experiments.searching.policy import Seen, best, dropped, tied
from runtime_matrix.experiments.statistics.interval import Interval


def seen(name: str, low: float, high: float, is_feasible: bool | None = True) -> Seen:
    return Seen(name, Interval((low + high) / 2, low, high, 0.99), is_feasible, "why" if is_feasible is False else "")


def test_what_is_worse_than_the_best_feasible_candidate_is_dropped() -> None:
    found = [seen("a", 0.5, 0.7), seen("b", 0.3, 0.49), seen("overlapping", 0.2, 0.51)]
    assert dropped(found) == {"b": "worse than a"}


def test_what_is_not_shown_to_be_feasible_drops_nothing() -> None:
    assert dropped([seen("fast", 0.5, 0.7, None), seen("slow", 0.1, 0.2, None)]) == {}
    assert dropped([seen("fast", 0.5, 0.7, False), seen("slow", 0.1, 0.2)]) == {"fast": "why"}


def test_what_is_not_shown_goes_on_unless_it_is_worse() -> None:
    found = [seen("a", 0.5, 0.7), seen("b", 0.6, 0.9, None), seen("c", 0.1, 0.2, None), Seen("d", None, None)]
    assert dropped(found) == {"c": "worse than a"}


def test_the_leader_is_the_one_with_the_highest_lower_bound() -> None:
    found = [seen("wide", 0.1, 2.0), seen("narrow", 0.8, 0.9), seen("slow", 0.3, 0.4)]
    assert dropped(found) == {"slow": "worse than narrow"}


@pytest.mark.parametrize(("is_feasible", "name"), [(True, "fast"), (None, "slow"), (False, "slow")])
def test_the_best_is_shown_to_be_feasible(is_feasible: bool | None, name: str) -> None:
    winner = best([seen("slow", 0.1, 0.2), seen("fast", 0.5, 0.7, is_feasible)])
    assert winner is not None
    assert winner.name == name


def test_ties_overlap_the_winner() -> None:
    found = [seen("a", 0.5, 0.7), seen("b", 0.4, 0.55), seen("c", 0.1, 0.2), seen("d", 0.6, 0.8, None)]
    winner = best(found)
    assert winner is not None
    assert [one.name for one in tied(found, winner)] == ["b"]
    assert best([seen("d", 0.6, 0.8, None)]) is None
