"""Energy is what a counter gained, over its wrap too; without a counter it is unknown, with the reason."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from runtime_matrix.experiments.measurement import energy
from runtime_matrix.experiments.measurement.energy import EnergyMeter, rapl_counters


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):  # two packages, and a part of the first
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("9000000")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")
    monkeypatch.setattr(rapl_counters, "__defaults__", (tmp_path,))
    return tmp_path


def test_packages_are_summed_and_wrapped_counters_are_corrected(powercap: Path) -> None:
    meter = EnergyMeter("cpu")
    with meter.measure():
        (powercap / "intel-rapl:0" / "energy_uj").write_text("9500000")
        (powercap / "intel-rapl:1" / "energy_uj").write_text("1000000")
        (powercap / "intel-rapl:0:0" / "energy_uj").write_text("9999999")
    assert meter.figures() == {"energy_j": pytest.approx(0.5 + 2.0), "energy_source": "RAPL", "energy_reason": None}


def test_energy_is_unknown_without_a_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl_counters, "__defaults__", (tmp_path,))
    meter = EnergyMeter("cpu")
    with meter.measure():
        pass
    assert meter.energy_j is None
    assert "no RAPL counter" in str(meter.reason)


def test_a_counter_that_only_root_may_read_gives_the_reason(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> float:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(energy, "_microjoules", refuse)
    assert str(EnergyMeter("cpu").reason).startswith("RAPL cannot be read: Permission denied: ")


def test_nvml_millijoules_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0, 5000, 7500])
    fake = types.ModuleType("pynvml")
    fake.NVMLError = OSError  # type: ignore[attr-defined]
    fake.nvmlInit = lambda: None  # type: ignore[attr-defined]
    fake.nvmlDeviceGetHandleByUUID = lambda uuid: uuid  # type: ignore[attr-defined]
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(readings) if handle == "GPU-b" else 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    meter = EnergyMeter("cuda", "GPU-b")
    with meter.measure():
        pass
    assert meter.energy_j == pytest.approx(2.5)
