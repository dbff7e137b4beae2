"""Change points: found where a level changed, not found in noise."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.trends import METRICS, change_points, trends
from tests.experiments.recorded import launches, make_record, result


def noise(kind: str, n: int, drawn: np.random.Generator) -> NDArray[np.float64]:
    """Return logs of values without any change."""
    if kind == "peak memory":  # as four sweeps of one cell had it, MiB
        return np.asarray(np.log(drawn.choice([58.0, 58.0, 59.0, 74.0], n)), np.float64)
    logs = drawn.standard_normal(n)
    correlation = 0.5 if kind == "correlated" else 0.0
    for index in range(1, n):
        logs[index] = correlation * logs[index - 1] + np.sqrt(1 - correlation**2) * logs[index]
    return 0.01 * logs


@pytest.mark.parametrize("n", [8, 12, 20, 40])
@pytest.mark.parametrize("kind", ["independent", "correlated", "peak memory"])
def test_noise_has_no_change(kind: str, n: int) -> None:
    """Of correlated series 18 to 27 % had one, of peaks 21 to 65 %."""
    drawn, runs = np.random.default_rng(0), 1000
    flagged = sum(bool(change_points(np.exp(noise(kind, n, drawn)).tolist())) for _ in range(runs))
    assert flagged / runs <= 0.01


@pytest.mark.parametrize(("kind", "at"), [("independent", 10), ("correlated", 10), ("independent", 16)])
def test_a_step_of_5_percent_is_found(kind: str, at: int) -> None:
    drawn, runs, found = np.random.default_rng(0), 200, 0
    for _ in range(runs):
        logs = noise(kind, 20, drawn)
        logs[at:] += np.log(1.05)
        found += any(abs(place - at) <= 1 for place in change_points(np.exp(logs).tolist(), 0.02))
    assert found / runs >= 0.8


def test_two_steps_are_found_and_a_small_one_is_ignored() -> None:
    levels = np.repeat([1.0, 1.2, 1.1], 10) * np.exp(0.005 * np.random.default_rng(0).standard_normal(30))
    assert change_points(levels.tolist()) == [10, 20]
    exact = [1.0] * 10 + [1.01] * 10
    assert change_points(exact) == [10]
    assert change_points(exact, 0.02) == []


@pytest.mark.parametrize(("values", "places"), [([2.0] * 10, []), ([2.0] * 6 + [3.0] * 6, [6]), ([1.0, 2.0], [])])
def test_exact_values(values: list[float], places: list[int]) -> None:
    assert change_points(values) == places


def test_each_metric_is_drawn_in_the_unit_of_its_column() -> None:
    axes = {key: (axis.unit, axis.factor) for key, axis in METRICS.items() if axis.unit}
    assert axes == {
        "ttft_s_p50": ("ms", 1e3),
        "tpot_s_p50": ("ms", 1e3),
        "peak_host_bytes": ("MiB", 1 / 2**20),
    }


def test_the_same_cell_over_commits_on_one_machine_is_one_series() -> None:
    days = [f"2026-11-{day:02}T10:00:00+00:00" for day in range(1, 13)]
    results = [
        result(
            make_record("compile", run=f"run-{day}", started_at=at, commit=f"{day:040}", slowness=1 if day < 6 else 2),
            launches(1.5 if day < 6 else 1.2),
        )
        for day, at in enumerate(days)
    ]
    moved = make_record("compile", run="else", started_at=days[-1], commit="b" * 40)
    moved = replace(moved, environment=replace(moved.environment, hostname="another"))
    (series,) = trends(rows([*results, result(moved)], all=True))
    assert series.at == days
    assert series.metrics["speedup_ratio"].changes == [6]
    assert series.metrics["speedup_ratio"].steps == [pytest.approx(0.8, rel=0.05)]
    # Drawn without: cells that ran one after the other move with the machine.
    assert series.metrics["tpot_s_p50"].changes == []
    assert series.metrics["tpot_s_p50"].is_tested is False
    assert series.metrics["peak_host_bytes"].changes == []
    assert series.cell == "compile · bundled · auto"


def test_cells_with_the_same_name_get_a_hash() -> None:
    twice = [make_record("eager", run=f"run-{n}") for n in range(2)]
    others = [replace(record, config_hash="another", run_id=f"{record.run_id}b") for record in twice]
    found = trends(rows([result(record) for record in (*twice, *others)], all=True))
    assert {series.cell for series in found} == {
        "eager · bundled · auto · hash-e",
        "eager · bundled · auto · anothe",
    }
