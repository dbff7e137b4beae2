from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.calibration import (
    calibrate,
    calibration_lines,
    launches_for,
    smallest_change,
    warnings,
    write_calibration,
)
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.statistics.sequential import Rule, look

GATE: GateConfig = build(GateConfig, compose_gate("speed", []), "gate")


def test_a_gate_finds_the_smallest_change() -> None:
    noise, count = 0.02, 10
    seen = smallest_change(noise, count, 0.99)
    drawn = random.Random(5)
    rule = Rule(0.0, seen, (count,))
    verdicts = [look([drawn.gauss(0.0, noise) for _ in range(count)], rule).verdict for _ in range(2000)]
    assert verdicts.count("pass") / 2000 >= 0.95
    slow = [look([drawn.gauss(seen, noise) for _ in range(count)], rule).verdict for _ in range(2000)]
    assert slow.count("fail") / 2000 >= 0.95


def test_launches_for_a_gap() -> None:
    needed = launches_for(0.02, 0.04, 0.99)
    assert needed is not None
    assert smallest_change(0.02, needed, 0.99) <= 0.04 < smallest_change(0.02, needed - 1, 0.99)
    assert launches_for(3.0, 0.01, 0.99) is None


@pytest.mark.parametrize(("noise", "count"), [(0.005, 0), (0.2, 1)])
def test_a_machine_that_is_too_noisy_gives_warnings(tmp_path: Path, noise: float, count: int) -> None:
    drawn = random.Random(1)
    found = calibrate({"decode": [drawn.gauss(0, noise) for _ in range(12)]}, "cpu_s", 0.9975)
    assert found.phases["decode"].noise == pytest.approx(noise, rel=0.5)
    assert found.phases["decode"].drift is None
    write_calibration({"wall": found}, tmp_path)
    said = warnings(tmp_path, GATE)
    assert len(said) == count
    assert all("expect inconclusive" in line for line in said)


def test_an_unreadable_calibration_gives_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, GATE) == []
    (tmp_path / "calibration.json").write_text("{")
    assert warnings(tmp_path, GATE) == []


def test_correlated_launches_and_drifting_rounds_are_reported() -> None:
    """AR(1) 0.6 leaves the t interval a coverage of 0.76 instead of 0.95, which must be reported."""
    drawn, values = random.Random(0), [0.0]
    for _ in range(59):
        values.append(0.8 * values[-1] + drawn.gauss(0, 0.01))
    halves = [(0.0, 0.03 + drawn.gauss(0, 0.005)) for _ in values]
    found = calibrate({"decode": values}, "cpu_s", 0.9975, {"decode": halves})
    decode = found.phases["decode"]
    assert decode.lag_1 is not None
    estimate, low, high = decode.lag_1
    assert 0 < low < estimate < high <= 1
    assert decode.drift is not None
    assert decode.drift[1] > 1
    said = "\n".join(calibration_lines(found))
    assert "lag-1 autocorrelation" in said
    assert "launches are correlated" in said
    assert "rounds are not yet steady" in said
    steady = [drawn.gauss(0, 0.01) for _ in range(12)]
    quiet = "\n".join(calibration_lines(calibrate({"decode": steady}, "cpu_s", 0.9975, {"decode": [(0.0, 0.0)] * 12})))
    assert "follow one another" not in quiet
    assert "not yet steady" not in quiet


def test_a_calibration_of_another_machine_gives_no_warning(tmp_path: Path) -> None:
    drawn = random.Random(1)
    noisy = calibrate({"decode": [drawn.gauss(0, 0.2) for _ in range(12)]}, "wall time", 0.9975)
    path = write_calibration({"wall": noisy}, tmp_path)
    assert warnings(tmp_path, GATE) != []
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"instruction_sets": ["sse9"]}))
    assert warnings(tmp_path, GATE) == []
