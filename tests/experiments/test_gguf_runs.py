"""Cells over a GGUF file, as a user runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.data import BUNDLED
from tests.gguf_files import write_gguf

pytest.importorskip("gguf", reason="the extra llamacpp is not installed")
pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
pytest.importorskip("accelerate", reason="the extra offload is not installed")

Run = Callable[..., subprocess.CompletedProcess[str]]
MODEL = BUNDLED / "model"
QUICK = ("benchmark=[perplexity]", "benchmark.perplexity.limit=2", "comparison.enabled=false", "hw=cpu")


def measured(run: Run, tmp_path: Path, file: Path, *words: str) -> dict[str, Any]:
    done = run("model=local", f"model.path={file}", *QUICK, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert record["status"] == "ok"
    return record


def entry(record: dict[str, Any], benchmark: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in record["benchmarks"] if entry["benchmark"] == benchmark)
    return found


def test_llamacpp_agrees_with_the_dequantized_weights(run: Run, tmp_path: Path) -> None:
    record = measured(run, tmp_path, write_gguf(MODEL, tmp_path / "bundled.gguf"), "runtime=llamacpp")
    assert entry(record, "agreement")["figures"]["max_logit_difference"] < 1e-3
    assert entry(record, "perplexity")["status"] == "ok"


@pytest.mark.slow
def test_quantized_weights_are_not_judged_as_if_they_were_dequantized(run: Run, tmp_path: Path) -> None:
    file = write_gguf(MODEL, tmp_path / "bundled.gguf", "Q4_0")
    quick = ("comparison.enabled=true", "comparison.launches=1", "comparison.rounds=10")
    done = run("-m", "runtime=eager,llamacpp", "model=local", f"model.path={file}", "hw=cpu", *QUICK[:2], *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong output" not in done.stdout
    rules = {json.loads(path.read_text())["token_rule"] for path in (tmp_path / "runs").glob("*/speed.json")}
    assert "share" in rules


def test_the_original_model_as_the_reference_shows_the_quantization(run: Run, tmp_path: Path) -> None:
    file = write_gguf(MODEL, tmp_path / "bundled.gguf", "Q8_0")
    record = measured(run, tmp_path, file, "runtime=eager", f"model.reference={MODEL}")
    assert 1e-2 < entry(record, "agreement")["figures"]["max_logit_difference"] < 1
    assert record["load"]["notes"][0] == "the weights were dequantized from GGUF Q8_0 to float32"
    assert record["load"]["held"]["form"] == "dense"


def test_a_file_that_only_llamacpp_reads_is_measured_without_a_reference(run: Run, tmp_path: Path) -> None:
    scaled: dict[str, Any] = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 2.0}
    file = write_gguf(MODEL, tmp_path / "scaled.gguf", "Q8_0", **scaled)
    record = measured(run, tmp_path, file, "runtime=llamacpp")
    agreement = entry(record, "agreement")
    assert agreement["status"] == "skipped"
    assert agreement["reason"].startswith("there is no reference: transformers")
    assert record["load"]["held"] == {"form": "gguf", "keeps_values": False, "is_whole": True}
