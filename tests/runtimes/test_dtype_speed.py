"""Emulated dtypes are found by measuring; what runs in one runs as asked, and what may choose chooses another."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from runtime_matrix.runtimes import artifacts, dtype_speed
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource
from runtime_matrix.runtimes.dtype_speed import dtype_note, is_emulated
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.usable import usable_attention
from runtime_matrix.runtimes.weights import gptq
from tests.conftest import ROOT

RATIOS = {"float32": 1.0, "bfloat16": 0.002, "float16": 0.013}


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype_speed, "products_ratio", RATIOS.__getitem__)


@pytest.mark.usefixtures("without_kernels")
def test_a_note_names_the_rate() -> None:
    assert dtype_note("bfloat16", "cpu") == (
        "bfloat16 is emulated on this processor: its products run at 0.002 of float32's rate"
    )
    assert dtype_note("float32", "cpu") is None
    assert dtype_note("bfloat16", "cuda") is None


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("engine", [Eager, Compiled])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_emulated_dtype_runs_as_asked(
    engine: type[Eager | Compiled], dtype: str, tiny_model: Path, tmp_path: Path
) -> None:
    runtime = engine(dtype=dtype)
    traits = runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, tmp_path), lambda name: nullcontext())
    assert traits.dtype == dtype
    assert traits.dtype_note is not None
    assert "emulated" in traits.dtype_note
    assert runtime._model.module.dtype == getattr(torch, dtype)
    runtime.close()


@pytest.mark.usefixtures("without_kernels")
def test_quantizing_takes_float32_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gptq.quantizing_dtype("cpu") == "float32"
    assert gptq.quantizing_dtype("cuda") == "auto"
    monkeypatch.setitem(RATIOS, "bfloat16", 1.9)
    assert gptq.quantizing_dtype("cpu") == "auto"


def test_weights_are_the_same_whatever_a_process_measures(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    made_from = []

    def entry(root: Path, kind: str, made: dict[str, object], build: object) -> Path:
        made_from.append(made)
        return tiny_model

    monkeypatch.setattr(gptq, "require", lambda *names: None)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
    monkeypatch.setattr(artifacts, "entry", entry)
    for emulated in (True, False):
        monkeypatch.setattr(gptq, "is_emulated", lambda dtype, answer=emulated: answer)
        source, hardware = ModelSource("tiny", tiny_model), Hardware("cpu", 1, tmp_path)
        gptq.Gptq().load(LoadRequest(source, "float32", "sdpa", hardware, [list(range(64))] * 64))
    assert made_from[0] == made_from[1]


@pytest.mark.alone
def test_measuring_is_quick_and_leaves_the_threads_alone() -> None:
    code = (
        "import time, torch; from runtime_matrix.runtimes.dtype_speed import is_emulated; torch.set_num_threads(2)\n"
        "start = time.perf_counter(); found = is_emulated('bfloat16'); seconds = time.perf_counter() - start\n"
        "assert seconds < 1, seconds; assert torch.get_num_threads() == 2; print(found)"
    )
    smaller = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=smaller, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("True", "False")  # which one depends on the processor
    assert not is_emulated("float32")


@pytest.mark.parametrize(("capability", "attention"), [((7, 5), "sdpa"), ((8, 0), "flash_attention_2")])
def test_flash_attention_needs_a_recent_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], attention: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    used, notes = usable_attention("flash_attention_2", "float16", "cuda")
    assert used == attention
    lacks = "flash_attention_2 needs compute capability 8.0 (found 7.5): sdpa was used"
    assert (notes == (lacks,)) == (attention == "sdpa")
