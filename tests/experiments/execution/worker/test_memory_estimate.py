"""The estimate of a cell: from files and loads alone, as wide as stated, and unknown where nothing is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker import loading
from runtime_matrix.experiments.execution.worker.memory_estimate import SPREAD, estimated, model_sizes
from runtime_matrix.experiments.records.schema import MemoryEstimate
from runtime_matrix.runtimes.weights import full
from tests.runtimes.test_footprint import ARCHITECTURE

MEMORY = ("benchmark=[memory]", "comparison.enabled=false")


def cell(*words: str) -> Cell:
    return plan(compose([*MEMORY, *words]), "a test")


def estimate(*words: str) -> MemoryEstimate | None:
    made = cell(*words)
    return estimated(made, loading.make_runtime(made.config.runtime), made.hardware("cpu"))


def bounds(*words: str) -> tuple[int, int]:
    found = estimate(*words)
    assert found is not None
    assert found.peak_bytes is not None
    return found.peak_bytes


def test_an_interval_has_its_width_and_grows_with_the_load() -> None:
    low, high = bounds("model=bundled")
    assert (high - low) / (high + low) == pytest.approx(SPREAD, rel=1e-4)
    assert SPREAD <= 0.2
    assert low < bounds("model=bundled", "benchmark.memory.batch=64")[0]


def test_small_models_are_estimated_without_validation() -> None:
    small, large = estimate("model=bundled"), estimate("model=random", "model/architecture=qwen2_5_0_5b")
    assert small is not None
    assert not small.is_validated
    assert large is not None
    assert large.is_validated
    assert large.peak_bytes is not None
    assert large.peak_bytes[0] > 1e9


def test_unknown_is_no_estimate() -> None:
    assert estimate("runtime=fake", "runtime@reference=fake", "model=random") is None
    assert estimate("model=bundled", "adapter=errands") is None
    assert estimate("model=bundled", "benchmark=[perplexity]") is None  # no load of fixed shape
    assert estimate("runtime=compile", "model=bundled") is None


def test_the_estimate_of_the_cell_covers_its_largest_load() -> None:
    found = estimate("model=bundled", "benchmark=[memory,latency]", "benchmark.latency.batch=[1,128]")
    assert found is not None
    assert found.peak_bytes is not None
    assert found.cell_peak_bytes is not None
    assert found.cell_peak_bytes[0] > found.peak_bytes[0]
    without = estimate("model=bundled", "benchmark=[latency]")
    assert without is not None
    assert without.peak_bytes is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_states_its_dtype_and_sizes(tmp_path: Path, dtype: str) -> None:
    module: Any = AutoModelForCausalLM.from_config(full.random_config(ARCHITECTURE), dtype=getattr(torch, dtype))
    module.save_pretrained(tmp_path / "model")
    found = model_sizes(cell("model=local", f"model.path={tmp_path / 'model'}"))
    assert found is not None
    assert found.stored_dtype == dtype
    assert found.weights == sum(weight.numel() for weight in module.parameters())
    assert (found.layers, found.heads, found.kv_heads, found.head_width) == (3, 4, 2, 16)


def test_drawn_models_have_no_stored_dtype() -> None:
    found = model_sizes(cell("model=random"))
    assert found is not None
    assert found.stored_dtype is None
    assert found.layers == 4
