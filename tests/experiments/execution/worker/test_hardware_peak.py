"""The hardware peak keeps its budget on processors of any speed. Time is simulated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from runtime_matrix.experiments.execution.worker import hardware_peak
from runtime_matrix.experiments.records.schema import HardwarePeak, to_plain

pytestmark = pytest.mark.alone

Measure = Callable[..., tuple[HardwarePeak, float]]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Return `measure` on a simulated processor, with the seconds that went by; its rates are operations and bytes."""

    def measure(dtypes: list[str], rates: dict[str, float], bytes_per_s: float) -> tuple[HardwarePeak, float]:
        now = 0.0

        def mm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
            nonlocal now
            now += 2 * len(a) ** 3 / rates[str(a.dtype).removeprefix("torch.")]

        def copy(target: torch.Tensor, source: torch.Tensor) -> None:
            nonlocal now
            now += 2 * source.numel() * source.element_size() / bytes_per_s

        monkeypatch.setattr(torch, "mm", mm)
        monkeypatch.setattr(torch.Tensor, "copy_", copy)
        return hardware_peak.measure("cpu", 1, dtypes, lambda: now), now

    return measure


def test_only_the_requested_dtypes_are_measured(measure: Measure) -> None:
    found, seconds = measure(["float32"], {"float32": 2e11}, 3e10)
    assert found.flops_per_s == {"float32": pytest.approx(2e11)}
    assert found.copy_bytes_per_s == pytest.approx(3e10)
    assert seconds < 1  # a fast machine needs no budget
    assert found.load_1min is not None
    assert {"others_ratio", "steal_ratio"} <= to_plain(found).keys()


@pytest.mark.parametrize("slow", [3.4e8, 1.95e8, 2e7])
def test_a_dtype_without_kernels_stays_within_the_budget(measure: Measure, slow: float) -> None:
    rates = {"float32": 1.4e11, "bfloat16": slow, "float16": slow}
    found, seconds = measure(["bfloat16", "float16", "float32"], rates, 7e9)
    assert seconds <= 3
    assert found.flops_per_s == {name: pytest.approx(rate) for name, rate in rates.items()}


def test_a_slow_machine_stays_within_the_budget(measure: Measure) -> None:
    found, seconds = measure(["float32"], {"float32": 1e8}, 2e8)
    assert seconds <= 3
    assert found.flops_per_s["float32"] == pytest.approx(1e8)
