"""What is done otherwise on a GPU. The device is a stand-in: a process says it has one, and computes on the CPU."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker import device, hardware_peak
from runtime_matrix.experiments.gates.speed_limits import SpeedLimit
from runtime_matrix.experiments.records.environment import (
    gpu_memory_bytes,
    gpus,
    machine_differences,
    machine_facts,
    visible,
)
from runtime_matrix.experiments.records.ratios import Clock
from runtime_matrix.experiments.records.schema import Environment
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.statistics.sequential import Rule
from runtime_matrix.experiments.timing import worker as interleaved_worker
from runtime_matrix.experiments.timing.launch import RunningLaunch, _ask_all
from runtime_matrix.experiments.timing.worker import Setting, Shape, _Worker
from runtime_matrix.runtimes.base import ModelSource
from runtime_matrix.runtimes.engines.usable import gpu_dtypes, usable_dtype
from runtime_matrix.runtimes.weights.full import Full
from runtime_matrix.runtimes.weights.gptq import Gptq
from runtime_matrix.runtimes.weights.torchao import TorchAo
from tests.experiments.recorded import launches

CARDS = [{"index": str(index), "uuid": f"GPU-{name}"} for index, name in enumerate(("aa1", "ab2", "bc3"))]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[_Worker, list[str]]:
    """Return the worker of a scripted runtime that is on a GPU, and a list of what it does."""
    done: list[str] = []
    held = iter(range(10**9))
    monkeypatch.setattr(device, "resolve", lambda hw: ("cuda", None))
    monkeypatch.setattr(device, "used_bytes", lambda name: lambda: next(held) if name == "cuda" else 0)
    monkeypatch.setattr(interleaved_worker, "_pin_to", lambda cores: done.append("pinned"))
    words = ["runtime=fake", "model=random", "runtime.engine.vocabulary=512", f"artifacts_dir={tmp_path}"]
    return _Worker(plan(compose(words), ""), None), done


def test_threads_are_not_pinned_and_device_memory_is_recorded(worker: tuple[_Worker, list[str]]) -> None:
    of_cell, done = worker
    assert of_cell.device() == "cuda"
    loaded = of_cell.load(Setting(2, (0,), (Shape(1, (4, 4), 2),), 1))
    assert done == []
    assert loaded.memory.peak_device_bytes is not None
    assert loaded.memory.peak_device_bytes > 0


def test_a_token_is_discarded_before_each_round(
    worker: tuple[_Worker, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_cell, _ = worker
    of_cell.device()
    of_cell.load(Setting(2, (0,), (Shape(1, (4, 4), 2),), 1))
    seen: list[list[list[int]]] = []
    forward = of_cell._runtime.forward

    def watched(ids_BT: torch.Tensor, *given: Any) -> Any:
        seen.append(ids_BT.tolist())
        return forward(ids_BT, *given)

    monkeypatch.setattr(of_cell._runtime, "forward", watched)
    found = of_cell.round([[9, 10, 11, 12]], 3)
    assert len(seen[0][0]) == 4
    assert seen[0] != [[9, 10, 11, 12]]  # nothing of the round is computed before
    assert [len(rows[0]) for rows in seen] == [4, 4, 1, 1]
    assert found.tokens == [[13, 14, 15]]


class Worker:
    """Stands for a process that takes orders."""

    def __init__(self, name: str, said: list[str]):
        self._name, self._said = name, said

    def send(self, *order: Any) -> None:
        self._said.append(f"{self._name} loads")

    def result(self) -> str:
        self._said.append(f"{self._name} has loaded")
        return self._name


@pytest.mark.parametrize("together", [True, False])
def test_cells_load_one_after_the_other_on_a_gpu(together: bool) -> None:
    said: list[str] = []
    present: Any = {index: Worker(name, said) for index, name in enumerate("ab")}
    heard: list[Any] = []
    _ask_all(
        RunningLaunch(), present, lambda index: ("load",), lambda index, answer: heard.append((index, answer)), together
    )
    assert heard == [(0, "a"), (1, "b")]
    one_by_one = ["a loads", "a has loaded", "b loads", "b has loaded"]
    assert said == (["a loads", "b loads", "a has loaded", "b has loaded"] if together else one_by_one)


def test_gates_on_a_gpu_ignore_the_host_s_cpu_time() -> None:
    limits = [
        SpeedLimit("a", "decode", clock, 0.0, Rule(0.01, 0.05, (2, 4), 0.95), mean_interval)
        for clock in (Clock.CPU, Clock.WALL)
    ]
    (on_cpu,) = launches(1.0, count=1)
    on_gpu = replace(on_cpu, device="cuda")
    assert [limit.applies([on_gpu]) for limit in limits] == [False, True]
    assert [limit.applies([on_cpu]) for limit in limits] == [True, True]


@pytest.mark.parametrize(
    ("chosen", "indexes"),
    [
        (None, "012"),
        ("", ""),
        ("1", "1"),
        ("2,0", "20"),
        ("GPU-b", "2"),
        ("GPU-aa1, 1", "01"),
        ("1,7,0", "1"),
        ("-1", ""),
        ("MIG-1", ""),
    ],
)
def test_hidden_cards_do_not_count(chosen: str | None, indexes: str) -> None:
    assert "".join(card["index"] for card in visible(CARDS, chosen)) == indexes


def test_cards_are_named_as_by_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a script in place of nvidia-smi."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "echo 'No devices were found'\n"
        "echo '0, GPU-a, Tesla T4, 550.1, 15360 MiB, 1590 MHz, 5001 MHz, 70.00 W'\n"
        "echo '1, GPU-b, NVIDIA H100 80GB HBM3, 550.1, [N/A], 1980 MHz, 2619 MHz, 700.00 W'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu["name"] for gpu in gpus()] == ["Tesla T4", "NVIDIA H100 80GB HBM3"]
    assert [gpu_memory_bytes(gpu) for gpu in gpus()] == [15360 * 2**20, None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert [gpu["name"] for gpu in gpus()] == ["NVIDIA H100 80GB HBM3"]
    assert "uuid" not in gpus()[0]  # of alike cards none is another machine


def test_another_gpu_is_another_machine() -> None:
    names = ("NVIDIA A100-SXM4-80GB", "NVIDIA H200")
    there, here = (Environment(processor="P", gpus=[{"name": name}]) for name in names)
    assert machine_differences(machine_facts(there), here) == ["gpus NVIDIA A100-SXM4-80GB, here NVIDIA H200"]
    assert machine_differences(machine_facts(there), there) == []


@pytest.mark.parametrize(
    ("wanted", "on", "kernels", "used"),
    [
        ("float32", "cuda", ("float16", "bfloat16"), "float16"),
        ("bfloat16", "cuda", ("float16", "bfloat16"), "bfloat16"),
        ("float32", "cuda", (), "float32"),
        ("float32", "cpu", ("float16", "bfloat16"), "float32"),
    ],
)
def test_weights_are_computed_with_in_a_dtype_that_has_kernels(
    wanted: str, on: str, kernels: tuple[str, ...], used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    dtype, notes = usable_dtype(wanted, on, kernels)
    assert dtype == used
    assert notes == (
        () if used == wanted else ("these weights have no kernels for float32 on a GPU: float16 was used",)
    )


def test_the_hardware_peak_uses_random_numbers() -> None:
    found = hardware_peak._random((3, 1 << 20), "cpu", "float32")
    assert found.shape == (3, 1 << 20)
    assert len(found[0, :1000].unique()) > 900
    assert math.isfinite(float(found.sum()))


def test_a_dtype_without_products_leaves_the_other_rates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    multiply = torch.mm

    def mm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if a.dtype is torch.bfloat16:
            raise RuntimeError("not on this device")
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    found = hardware_peak.measure("cpu", 1, ["bfloat16", "float32"])
    assert list(found.flops_per_s) == ["float32"]
    assert found.copy_bytes_per_s
    assert "no products of bfloat16: not on this device" in capsys.readouterr().err


def test_both_16_bit_types_are_measured_on_a_gpu() -> None:
    assert hardware_peak._measured_dtypes("cuda", ["bfloat16"]) == ["bfloat16", "float16"]
    assert hardware_peak._measured_dtypes("cuda", ["float32"]) == ["float32"]
    assert hardware_peak._measured_dtypes("cpu", ["bfloat16"]) == ["bfloat16"]


def test_four_bit_weights_are_recognized_before_loading() -> None:
    checkpoints = Path(__file__).parents[3] / "runtimes" / "checkpoints"
    for name in ("autogptq", "autoawq"):
        words = ["model=local", f"model.path={checkpoints / name}", "benchmark=[perplexity]"]
        words += ["benchmark.perplexity.window=64", "benchmark.perplexity.stride=32"]
        source = plan(compose(words), "").source
        assert gpu_dtypes(Full(), source) == gpu_dtypes(Gptq(), source) == ("float16", "bfloat16")
    assert gpu_dtypes(Full(), ModelSource("random", None, {}, 0)) == ()
    assert gpu_dtypes(TorchAo("int8"), source) == ()  # which says nothing of dtypes


def test_the_memory_of_the_card_in_use_is_sampled_from_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread that has not chosen a card, torch's current one is the first."""
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)

    def mem_get_info(index: int | None = None) -> tuple[int, int]:
        asked.append(index)
        return 70, 80

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    used = device.used_bytes("cuda")
    assert used is not None
    assert used() == 0
    assert asked == [1, 1]


def test_energy_is_read_by_the_card_s_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index=None: SimpleNamespace(uuid="11-22"))
    assert device.uuid() == "GPU-11-22"
