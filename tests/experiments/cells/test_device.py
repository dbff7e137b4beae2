from __future__ import annotations

import pytest

from experiments.cells.device import _misfit
from experiments.compose import CONF, compose
from experiments.config import CellConfig, HwConfig, build

PROFILES = sorted(path.stem for path in (CONF / "hw").glob("*.yaml"))


def profile(name: str) -> HwConfig:
    config: CellConfig = build(CellConfig, compose([f"hw={name}", "model=random"]))
    return config.hw


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_states_its_source(name: str) -> None:
    hw = profile(name)
    assert hw.name == name
    if hw.device == "cuda":
        assert hw.facts.source
        assert hw.facts.bandwidth_gb_per_s
        assert hw.facts.peak_tflops["float32"] < hw.facts.peak_tflops["float16"]


@pytest.mark.parametrize(
    ("name", "devices", "fits"),
    [
        ("a100", [("NVIDIA A100-SXM4-80GB", 85.1)], True),
        ("a100", [("NVIDIA A100-SXM4-40GB", 42.3)], False),
        ("a100_40gb", [("NVIDIA A100-SXM4-40GB", 42.3)], True),
        ("a100_40gb", [("NVIDIA A100-SXM4-80GB", 85.1)], False),
        ("h100", [("NVIDIA H200", 150.8)], False),
        ("h200", [("NVIDIA H200", 150.8)], True),
        ("h100", [("NVIDIA H100 80GB HBM3", 85.0)], True),
        ("t4", [("Tesla T4", 15.8)], True),
        ("kaggle_t4x2", [("Tesla T4", 15.8)], False),
        ("kaggle_t4x2", [("Tesla T4", 15.8)] * 2, True),
        ("rtx4090", [], False),
        ("auto", [], True),
        ("cpu", [], True),
    ],
)
def test_a_profile_is_true_or_refused(name: str, devices: list[tuple[str, float]], fits: bool) -> None:
    misfit = _misfit(profile(name), devices)
    assert (misfit is None) == fits
    if misfit and not devices:
        assert misfit == "1 CUDA device named 4090 with 24 GB; found no CUDA device"
