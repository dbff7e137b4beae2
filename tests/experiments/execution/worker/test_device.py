from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import CONF, compose
from runtime_matrix.experiments.config.schema import HwConfig
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.worker import device
from runtime_matrix.experiments.execution.worker.device import _misfit
from runtime_matrix.runtimes.base import Unsupported
from tests.experiments.test_run import Run, records

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
        ("a100", [("NVIDIA A100 80GB PCIe", 85.1)], False),
        ("a100_pcie", [("NVIDIA A100 80GB PCIe", 85.1)], True),
        ("a100_40gb", [("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 42.3)], False),
        ("h100", [("NVIDIA H100 80GB HBM3 MIG 7g.80gb", 85.0)], False),
        ("h100", [("NVIDIA H100 PCIe", 85.0)], False),
        ("h100_pcie", [("NVIDIA H100 PCIe", 85.0)], True),
        ("h100", [("NVIDIA H100 NVL", 85.0)], False),
        ("h200", [("NVIDIA H200 NVL", 150.1)], False),
        ("t4", [("Tesla T4", 15.8)], True),
        ("kaggle_t4x2", [("Tesla T4", 15.8)], False),
        ("kaggle_t4x2", [("Tesla T4", 15.8)] * 2, True),
        ("rtx4090", [], False),
        ("auto", [], True),
        ("cpu", [], True),
    ],
)
def test_a_profile_matches_or_is_refused(name: str, devices: list[tuple[str, float]], fits: bool) -> None:
    misfit = _misfit(profile(name), devices)
    assert (misfit is None) == fits
    if misfit and not devices:
        assert misfit == "1 CUDA device named 4090 with 24 GB; found no CUDA device"


def test_a_process_bound_to_one_card_of_a_profile_with_two_needs_to_see_one() -> None:
    bound = replace(profile("kaggle_t4x2"), devices=2)
    assert _misfit(bound, [("Tesla T4", 15.8)]) is None
    assert _misfit(bound, [("NVIDIA H200", 150.8)]) is not None


def test_the_card_that_matches_the_profile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for torch's questions to the driver."""
    cards = [
        SimpleNamespace(name="Tesla T4", total_memory=int(15.8e9), uuid="11"),
        SimpleNamespace(name="NVIDIA A100-SXM4-80GB", total_memory=int(85.1e9), uuid="22"),
    ]
    current = [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: current.__setitem__(0, index))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index=None: cards[current[0] if index is None else index]
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.resolve(profile("a100")) == ("cuda", None)
    assert (current, device.uuid(), os.environ["CUDA_VISIBLE_DEVICES"]) == ([1], "GPU-22", "GPU-22")
    with pytest.raises(Unsupported, match="named H100, not PCIe or NVL, with 80 GB; found Tesla T4 with 16 GB, NVIDIA"):
        device.resolve(profile("h100"))


def test_a_mismatch_names_what_is_needed_what_was_found_and_what_works(run: Run) -> None:
    done = run("hw=h100", "model=random", "benchmark=[memory]")
    assert done.returncode == 3
    shown = " ".join(done.stdout.split())
    assert "hw=h100 needs 1 CUDA device named H100 with 80 GB; found no CUDA device" in shown
    assert "use hw=auto here, or run anyway with hw.allow_mismatch=true" in shown


def test_allow_mismatch_runs_and_marks_every_row(run: Run, tmp_path: Path) -> None:
    done = run("hw=h100", "hw.allow_mismatch=true", "model=random", "benchmark=[memory]")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert record["load"]["notes"] == ["not a h100: no CUDA device"]  # type: ignore[index]
