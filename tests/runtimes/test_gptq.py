"""GPTQ and AWQ end to end: quantized, kept, found again, and read as the checkpoints that they are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_run import Run

HAS_GPTQMODEL = importlib.util.find_spec("gptqmodel") is not None  # importing it here would patch transformers
WHAT = (
    "benchmark=[perplexity]",
    "benchmark.perplexity.limit=60",
    "agreement.enabled=false",
    "comparison.enabled=false",
    "calibration.sequences=16",
)


def figures(run: Run, tmp_path: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Return the figures of each runtime that a sweep measured."""
    results = tmp_path / str(len(list(tmp_path.iterdir())))
    done = run("-m", *words, *WHAT, f"results_dir={results}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in results.glob("*/record.json")]
    return {
        record["runtime"]["name"]: {**record["benchmarks"][0]["figures"], "artifacts": record["load"]["artifacts"]}
        for record in found
    }


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GPTQMODEL, reason="gptqmodel is not installed: pip install 'runtime-matrix[gptq]'")
def test_four_bits_cost_little_and_the_checkpoint_reads_as_a_model(run: Run, tmp_path: Path, artifacts: Path) -> None:
    made = figures(run, tmp_path, "runtime=eager,gptq,awq")
    (rounded,) = figures(run, tmp_path, "runtime/weights=rounded", "runtime.weights.bits=4").values()
    again = figures(run, tmp_path, "runtime=gptq,awq", "seed=1")
    for method in ("gptq", "awq"):
        # The same windows under all: the loss of a method that looks at a text is less than that of rounding.
        assert made["eager"]["perplexity"] < made[method]["perplexity"] < rounded["perplexity"]
        assert made[method]["artifacts"].items() >= {"built": 1, "found": 0}.items()
        assert again[method]["artifacts"].items() >= {"built": 0, "found": 1}.items()
        (folder,) = (path for path in artifacts.glob(f"{method}/*") if path.is_dir())
        (read,) = figures(run, tmp_path, "model=local", f"model.path={folder}").values()
        assert read["perplexity"] == pytest.approx(made[method]["perplexity"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GPTQMODEL, reason="gptqmodel is not installed: pip install 'runtime-matrix[gptq]'")
def test_awq_in_float32_costs_as_little(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without fast kernels for bfloat16."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    made = figures(run, tmp_path, "runtime=eager,awq")
    (rounded,) = figures(run, tmp_path, "runtime/weights=rounded", "runtime.weights.bits=4").values()
    assert made["eager"]["perplexity"] < made["awq"]["perplexity"] < rounded["perplexity"]
