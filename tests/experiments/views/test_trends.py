"""Change points: found where a level changed, not found in noise."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.records.matrix import rows
from experiments.views.trends import change_points, trends
from tests.experiments.recorded import make_record


def noisy(levels: list[float], each: int, seed: int) -> list[float]:
    drawn = np.random.default_rng(seed)
    return [float(level * np.exp(drawn.normal(0, 0.02))) for level in levels for _ in range(each)]


def test_noise_has_no_change() -> None:
    assert sum(bool(change_points(noisy([1.0], 30, seed))) for seed in range(100)) <= 2


def test_a_level_that_rose_by_a_tenth_is_found() -> None:
    found = [change_points(noisy([1.0, 1.1], 12, seed)) for seed in range(50)]
    assert sum(any(abs(place - 12) <= 1 for place in places) for places in found) >= 48


@pytest.mark.parametrize(("values", "places"), [([2.0] * 10, []), ([2.0] * 6 + [3.0] * 6, [6]), ([1.0, 2.0], [])])
def test_exact_values(values: list[float], places: list[int]) -> None:
    assert change_points(values) == places


def test_the_same_cell_over_commits_on_one_machine_is_one_series() -> None:
    days = [f"2026-11-{day:02}T10:00:00+00:00" for day in range(1, 13)]
    records = [
        make_record("eager", run=f"run-{day}", started_at=at, commit=f"{day:040}", slowness=1 if day < 6 else 2)
        for day, at in enumerate(days)
    ]
    moved = make_record("eager", run="else", started_at=days[-1], commit="b" * 40)
    moved["environment"]["hostname"] = "another"
    found = trends(rows([*records, moved], all=True))
    assert len(found) == 1
    assert found[0]["at"] == days
    assert found[0]["metrics"]["tpot_s_p50"]["changes"] == [6]
    assert found[0]["metrics"]["tpot_s_p50"]["steps"] == [pytest.approx(2, rel=0.05)]
    assert found[0]["metrics"]["peak_host_bytes"]["changes"] == []
    assert found[0]["cell"] == "eager · bundled · auto"


def test_cells_of_one_name_are_told_apart() -> None:
    twice = [make_record("eager", run=f"run-{n}") for n in range(2)]
    others = [record | {"config_hash": "another", "run_id": f"{record['run_id']}b"} for record in twice]
    found = trends(rows([*twice, *others], all=True))
    assert {series["cell"] for series in found} == {
        "eager · bundled · auto · hash-e",
        "eager · bundled · auto · anothe",
    }
