"""Replays on a grid with scripted launches, items and CPU seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.validation.search_grid import GridCell, breaks, feasible, grid_of
from runtime_matrix.experiments.validation.search_replay import drawn_request, figures, replay_search, table
from tests.experiments.recorded import launches, sweep

SPEEDS = [1.0, *(0.2 + 0.1 * number for number in range(1, 40))]
ITEMS = 400


def cell(number: int, speed: float) -> GridCell:
    wrong = 200 if number == 39 else 0  # the fastest loses half of its accuracy
    return GridCell(
        name=f"cell {number}",
        options={"runtime": f"r{number // 2}", "threads": str(number % 2)},
        is_reference=number == 0,
        launches=launches(speed, 8),
        peak=(2.0**30 * 0.99, 2.0**30, 2.0**30 * 1.01),
        scores={"multiple_choice": [(float(i % 400 >= wrong), 1.0) for i in range(ITEMS)]},
        job_cpu_s=2.0,
        item_cpu_s=8.0,
        launch_cpu_s=3.0,
    )


@pytest.fixture
def grid() -> list[GridCell]:
    return [cell(number, speed) for number, speed in enumerate(SPEEDS)]


def test_a_trial_costs_its_new_items_and_launches(grid: list[GridCell]) -> None:
    assert grid[1].cost_s(None, 0, None) == 2.0 + 8.0 + 8 * 3.0
    assert grid[1].cost_s(100, 25, 2) == 2.0 + 8.0 * 75 / ITEMS + 2 * 3.0


def test_the_search_finds_the_optimum_for_less(grid: list[GridCell]) -> None:
    whole_s = sum(one.cost_s(None, 0, None) for one in grid)
    fastest = replay_search(grid, Constraints("latency"))
    assert fastest.cell is grid[39]
    assert fastest.cpu_s < 0.5 * whole_s
    accurate = replay_search(grid, Constraints("latency", min_accuracy=0.9))
    assert accurate.cell is grid[38]


def test_a_cell_that_loses_accuracy_breaks_the_constraint(grid: list[GridCell]) -> None:
    request = Constraints("latency", min_accuracy=0.9)
    assert breaks(grid[39], request)
    assert feasible(grid[39], request, 25, 2) is False
    assert feasible(grid[38], request, None, None) is True
    assert feasible(grid[38], Constraints("latency", max_memory_gib=1.0), None, None) is None


def test_strategies_share_a_budget(grid: list[GridCell]) -> None:
    drawn = random.Random(0)
    found = figures(grid, [drawn_request(grid, drawn) for _ in range(8)], seed=0)
    assert found["search"]["near_ratio"] == 1.0
    assert found["search"]["broken"] == 0
    assert found["random"]["cpu_ratio"] <= found["search"]["cpu_ratio"]
    assert found["random"]["near_ratio"] < 1.0
    assert "| search | 100 % |" in table(found, len(grid))


def test_records_without_cpu_seconds_are_refused(tmp_path: Path) -> None:
    folder = sweep(tmp_path, questions=60)
    assert read(folder)[0]
    with pytest.raises(UserError, match="does not have the CPU seconds of its processes"):
        grid_of(folder)
