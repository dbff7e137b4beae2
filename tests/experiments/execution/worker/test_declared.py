"""What a runtime declares of its weights is believed only as far as the model and the process allow it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker.declared import doubt, parameters_of, wrong_declaration
from runtime_matrix.experiments.execution.worker.loading import held_weights, load, make_runtime
from runtime_matrix.runtimes.base import Traits
from runtime_matrix.runtimes.ranks import Rank

MIB = 2**20
COUNT = 3_410_176  # weights of the bundled model


def cell(*words: str) -> Cell:
    return plan(compose(["benchmark=[latency]", *words]), "a test")


def declared(mib: float, dtype: str = "float32", *words: str, is_scripted: bool = False) -> str | None:
    traits = Traits(2048, 1024, dtype, weight_bytes=int(mib * MIB), is_scripted=is_scripted)
    return wrong_declaration(traits, held_weights(cell(*words).config.runtime), COUNT)


def test_full_weights_take_the_size_of_their_dtype() -> None:
    assert declared(13.01) is None
    assert declared(6.5, "bfloat16") is None
    assert declared(3.2) == "the runtime declares 3.2 MiB of float32 weights; the model has 13.0"
    assert declared(6.5) == "the runtime declares 6.5 MiB of float32 weights; the model has 13.0"
    assert declared(26.0) == "the runtime declares 26.0 MiB of float32 weights; the model has 13.0"
    assert declared(13.0, "int8") == ("the runtime declares the dtype 'int8'; known: float32, bfloat16, float16")


def test_rounded_weights_are_dense_and_as_large_as_full_ones() -> None:
    rounded = ("runtime/weights=rounded",)
    assert declared(13.01, "float32", *rounded) is None
    assert declared(3.2, "float32", *rounded) == "the runtime declares 3.2 MiB of float32 weights; the model has 13.0"


def test_weights_that_every_rank_holds_take_memory_again() -> None:
    held = held_weights(cell("runtime/placement=tensor_parallel").config.runtime)
    assert held.is_whole
    rank = Rank(process=1, device="cpu", parameters=0, copied_parameters=MIB // 4, weight_bytes=0)
    traits = Traits(2048, 1024, "float32", weight_bytes=int(15 * MIB), ranks=(rank, rank, rank))
    assert wrong_declaration(traits, held, COUNT) is None
    assert wrong_declaration(replace(traits, ranks=()), held, COUNT) is not None
    missing = replace(traits, weight_bytes=int(13 * MIB))
    assert wrong_declaration(missing, held, COUNT) == (
        "the runtime declares 13.0 MiB of float32 weights; the model has 15.0"
    )


def test_packed_weights_take_between_one_bit_and_their_dtype() -> None:
    packed = ("runtime/weights=gptq",)
    assert declared(2.0, "float32", *packed) is None
    assert declared(13.3, "float32", *packed) is None
    assert "packed float32 weights; the model has 0.4 to 14.4" in str(declared(0.1, "float32", *packed))
    assert "declares 20.0 MiB" in str(declared(20.0, "float32", *packed))


def test_offloaded_or_unknown_weights_are_no_error() -> None:
    assert declared(0.5, "float32", "runtime=offload") is None
    assert "declares 20.0 MiB" in str(declared(20.0, "float32", "runtime=offload"))
    assert declared(0, is_scripted=True) is None
    unknown = Traits(2048, 1024, "float32", weight_bytes=None)
    held = held_weights(cell().config.runtime)
    assert wrong_declaration(unknown, held, COUNT) is None
    assert wrong_declaration(replace(unknown, weight_bytes=1), held, None) is None


def test_a_load_that_took_less_memory_than_declared_is_noted() -> None:
    assert doubt(1000 * MIB, 100 * MIB, 0) == "the runtime declares 1000 MiB of weights, but loading took 100 MiB"
    assert doubt(1000 * MIB, 100 * MIB, 1000 * MIB) is None  # mapped and not yet read
    assert doubt(20 * MIB, -5 * MIB, 0) is None  # what was free before is used again
    assert doubt(None, 0, 0) is None
    assert doubt(1, None, 0) is None


def test_weights_are_counted_in_the_files(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert models.stored_parameters(BUNDLED / "model") == COUNT
    module = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert models.stored_parameters(tiny_model) == sum(weight.numel() for weight in module.parameters())
    config = json.loads((tiny_model / "config.json").read_text())
    for name in os.listdir(tiny_model):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "text_config": config}))
    assert models.stored_parameters(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("runtime=eager",),
        ("runtime=eager", "runtime.dtype=bfloat16"),
        ("runtime=eager", "model=random"),
        ("runtime=eager", "model=random", "model.architecture.tie_word_embeddings=true"),
        ("runtime=eager", "runtime/weights=rounded", "runtime.weights.bits=3"),
        ("runtime=offload",),
        ("runtime=onnxruntime",),
        ("runtime=onnxruntime_w8",),
        ("runtime=onnxruntime_w8a8",),
        ("runtime=onnxruntime_w4",),
        ("runtime=onnxruntime_w4a8",),
        ("runtime=openvino",),
        ("runtime=openvino_w8",),
        ("runtime=llamacpp",),
        ("runtime=llamacpp", "runtime.dtype=bfloat16", "model=random", "model.architecture.tie_word_embeddings=true"),
        ("runtime=llamacpp_q8_0",),
        ("runtime=llamacpp_q4_0",),
        ("runtime=llamacpp_kv8",),
        ("runtime=torchao_int8",),
        ("runtime=nf4",),
    ],
    ids=" ".join,
)
def test_declarations_of_the_built_in_runtimes_are_accepted(words: tuple[str, ...], artifacts: Path) -> None:
    packages = {
        "onnx": "onnxruntime",
        "openvino": "openvino",
        "llamacpp": "xllamacpp",
        "torchao": "torchao",
        "nf4": "bitsandbytes",
        "offload": "accelerate",
    }
    for part, package in packages.items():
        if part in words[0]:
            pytest.importorskip(package)
    asked = cell(*words, f"artifacts_dir={artifacts}")
    runtime = make_runtime(asked.config.runtime)
    traits = load(asked, runtime, asked.config.runtime, asked.hardware("cpu"), lambda name: nullcontext())
    count = parameters_of(asked, traits.weight_bytes, traits.dtype)
    runtime.close()
    assert count is not None
    assert wrong_declaration(traits, held_weights(asked.config.runtime), count) is None


RUNTIME = """
from dataclasses import replace
from runtime_matrix.runtimes.engines.eager import Eager

class Liar(Eager):
    def load(self, *given):
        traits = super().load(*given)
        return replace(traits, weight_bytes=traits.weight_bytes // 4)
"""


def test_a_false_declaration_is_an_error_in_one_line(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liar.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(tmp_path)
    done = run("runtime=custom", "runtime.engine.target=liar:Liar", "benchmark=[latency]", "agreement.enabled=false")
    assert done.returncode == 1, done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "error"
    assert record["reason"] == "ValueError: the runtime declares 3.3 MiB of float32 weights; the model has 13.0"
    assert record["load"]["weight_bytes"] is None
    assert record["load"]["import_bytes"] >= 0
    assert sys.platform != "linux" or record["load"]["gained_host_bytes"] is not None
