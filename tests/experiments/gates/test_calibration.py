from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from experiments.compose import compose_gate
from experiments.gates.calibration import calibrate, launches_for, smallest_change, warnings, write_calibration
from experiments.gates.limits import GateConfig
from experiments.measurement.sequential import Rule, look
from experiments.strict import build
from tests.experiments.gates.test_judge import launches

GATE: GateConfig = build(GateConfig, compose_gate("speed", []), "gate")


def test_the_smallest_change_is_what_a_gate_of_that_tolerance_finds() -> None:
    noise, count = 0.02, 10
    seen = smallest_change(noise, count, 0.99)
    drawn = random.Random(5)
    rule = Rule(seen, (count,))
    verdicts = [look([drawn.gauss(0.0, noise) for _ in range(count)], rule).verdict for _ in range(2000)]
    assert verdicts.count("pass") / 2000 >= 0.95
    slow = [look([drawn.gauss(seen * 1.25, noise) for _ in range(count)], rule).verdict for _ in range(2000)]
    assert slow.count("fail") / 2000 >= 0.97


def test_launches_for_a_tolerance() -> None:
    needed = launches_for(0.02, 0.04, 0.99)
    assert needed is not None
    assert smallest_change(0.02, needed, 0.99) <= 0.04 < smallest_change(0.02, needed - 1, 0.99)
    assert launches_for(3.0, 0.01, 0.99) is None


@pytest.mark.parametrize(("noise", "count"), [(0.005, 0), (0.2, 1)])
def test_the_gate_hears_of_a_machine_that_is_too_noisy(tmp_path: Path, noise: float, count: int) -> None:
    found = calibrate(launches(0.0, 12, noise), "cpu_s", 0.9975)
    assert found["phases"]["decode"]["noise"] == pytest.approx(noise, rel=0.5)
    write_calibration(found, tmp_path)
    said = warnings(tmp_path, GATE)
    assert len(said) == count
    assert all("expect inconclusive" in line for line in said)


def test_a_calibration_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert warnings(tmp_path, GATE) == []
    (tmp_path / "calibration.json").write_text("{")
    assert warnings(tmp_path, GATE) == []


def test_a_calibration_of_another_machine_says_nothing(tmp_path: Path) -> None:
    path = write_calibration(calibrate(launches(0.0, 12, 0.2), "cpu_s", 0.9975), tmp_path)
    assert warnings(tmp_path, GATE) != []
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"instruction_sets": ["sse9"]}))
    assert warnings(tmp_path, GATE) == []
