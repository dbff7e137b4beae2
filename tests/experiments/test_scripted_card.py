"""`experiment=gpu` on a machine whose GPU is a stand-in: in slices, killed, resumed, and every benchmark on TensorRT.

Engines, cells, comparisons and records are the real ones, and numbers are computed on the host. What is not there is
the card's speed, and kernels: weights that others packed end with the reason.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.experiments.kills import MARK, left

CARD = ROOT / "tests" / "scripted_card"
SWEEP = (
    "experiment=gpu",
    "hw=h100",
    "model/architecture=small",
    "model.architecture.num_hidden_layers=1",
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=64",
    "model.architecture.vocab_size=256",
    "runtime=eager,compile_cuda_graph,onnxruntime,nf4",
    "runtime.dtype=float16",  # which ONNX Runtime has kernels for on the host
    "benchmark.latency={batch:[1,2],prompt_tokens:[16],new_tokens:[4],iterations:2,warmup:1}",
    "benchmark.memory={batch:1,prompt_tokens:16,new_tokens:4}",
    "agreement.token_ids=16",
    "comparison={first_look:false,launches:2,seconds:0.2,prompt_tokens:16,new_tokens:4,batched:null}",
)
EVERYTHING = (
    "hw=h100",
    "runtime=tensorrt",
    "runtime.dtype=float32",
    "runtime.engine.max_batch=4",
    "runtime.engine.max_tokens=512",
    "benchmark=[latency,memory,perplexity,divergence,multiple_choice,code,extractive_qa,summarization,throughput,ablation]",
    "benchmark.latency={batch:[1,8],prompt_tokens:[32],new_tokens:[8],iterations:2,warmup:1}",
    "benchmark.multiple_choice.limit=12",
    "benchmark.code={limit:3,overlap:false}",
    "benchmark.extractive_qa.limit=4",
    "benchmark.summarization.limit=3",
    "benchmark.perplexity.limit=4",
    "benchmark.divergence.tokens=512",
    "benchmark.throughput.requests=6",
    "benchmark.ablation={pairs:1,questions:8,texts:3,only:shared}",
    "comparison.enabled=false",
)


def start(folder: Path, mark: str, *words: str) -> subprocess.Popen[str]:
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder / 'artifacts'}"]
    paths = {"PYTHONPATH": f"{CARD}:{ROOT}", "PATH": f"{CARD}:{os.environ['PATH']}"}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *words, *places],
        cwd=ROOT,
        env={**os.environ, **paths, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, mark: str, *words: str) -> str:
    said, _ = start(folder, mark, *words).communicate(timeout=280)
    return said


def records(folder: Path) -> dict[str, Any]:
    """Return the records by runtime; two that are ok of one runtime are an error."""
    found: dict[str, Any] = {}
    for path in (folder / "runs").glob("*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] == "interrupted":
            continue
        name = f"{record['config']['runtime']['name']}+{record['config']['runtime']['weights']['name']}"
        assert name not in found or record["status"] != "ok"
        speed = path.parent / "speed.json"
        found[name] = record | ({"speed": json.loads(speed.read_text())} if speed.exists() else {})
    return found


@pytest.mark.slow
def test_a_sweep_of_a_gpu_in_slices_that_is_killed_and_goes_on(tmp_path: Path) -> None:
    first = run(tmp_path, "slices", *SWEEP, "stop_after_s=1")
    assert "stop_after_s: 3 cells are left; the same command with resume=true continues" in first
    assert list(records(tmp_path)) == ["eager+full"]

    sweep = start(tmp_path, "slices", *SWEEP)
    assert sweep.stdout is not None
    for line in sweep.stdout:
        if "compile_cuda_graph" in line and line.endswith(": load\n"):
            break
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    sweep.stdout.close()
    assert left("slices") == []

    whole = run(tmp_path, "slices", *SWEEP)
    assert whole.count("recorded earlier") == 1
    found = records(tmp_path)
    assert {name: record["status"] for name, record in found.items()} == {
        "eager+full": "ok",
        "compile_cuda_graph+full": "ok",
        "onnxruntime+full": "ok",
        "eager+nf4": "error",  # the stand-in has none of bitsandbytes' kernels
    }
    for name, record in found.items():
        assert record["environment"]["gpus"][0]["name"] == "NVIDIA H100 80GB HBM3"
        if record["status"] != "ok":
            continue
        assert record["hardware_peak"]["device_name"] == "NVIDIA H100 80GB HBM3"
        by_name = {entry["benchmark"]: entry["figures"] for entry in record["benchmarks"]}
        assert by_name["memory"]["peak_device_bytes"] > 0
        # Against the float32 reference, steps behind a cache included.
        assert by_name["agreement"]["max_logit_difference"] < 0.01, name
        if name != "eager+full":
            launches = record["speed"]["launches"]
            assert len(launches) == 2
            assert all(launch["machine"]["load_1min"] >= 0 for launch in launches)
    ratios = re.findall(r"^(\w+) +ok .*\]", whole, re.MULTILINE)
    assert set(ratios) == {"compile_cuda_graph", "onnxruntime"}

    assert left("slices") == []


@pytest.mark.slow
def test_every_benchmark_keeps_within_an_engines_bounds(tmp_path: Path) -> None:
    said = run(tmp_path, "bounds", *EVERYTHING)
    (record,) = records(tmp_path).values()
    assert record["status"] == "ok", said
    by_name: dict[str, list[Any]] = {}
    for entry in record["benchmarks"]:
        by_name.setdefault(entry["benchmark"], []).append(entry)
    asked = re.search(r"benchmark=\[(.*)\]", EVERYTHING[5])
    assert asked is not None
    assert {*asked[1].split(","), "agreement"} == set(by_name)
    skipped = {name: entry["reason"] for name, entries in by_name.items() for entry in entries if entry["reason"]}
    assert skipped == {"latency": "the benchmark needs batches of 8 rows; tensorrt takes 4"}
