"""What a cell refuses before anything is loaded, and what it falls back to with a note."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker import loading
from runtime_matrix.experiments.execution.worker.loading import load, make_runtime
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import HeldWeights
from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.weights.rounded import Rounded
from tests.experiments.test_run import Run, records


def cell(*words: str, artifacts: Path) -> Cell:
    return plan(compose([*words, f"artifacts_dir={artifacts}", "hw=cpu"]), "")


@pytest.fixture
def quantized(tiny_model: Path, tmp_path: Path) -> Path:
    """Return a folder that says of itself that it is quantized."""
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runtime=onnxruntime"], "quantized by awq, which runtime=onnxruntime cannot read: use runtime=eager"),
        (["runtime/weights=nf4"], "already quantized by awq: use runtime/weights=full"),
    ],
)
def test_a_quantized_checkpoint_that_a_runtime_cannot_read_is_refused(
    quantized: Path, artifacts: Path, words: list[str], says: str
) -> None:
    made = cell(*words, "model=local", f"model.path={quantized}", artifacts=artifacts)
    config = made.config.runtime
    with pytest.raises(Unsupported, match=says):
        load(made, make_runtime(config), config, made.hardware("cpu"), lambda name: nullcontext())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runtime=compile"], "runtime=compile holds its weights itself: runtime/placement=tensor_parallel works only"),
        (["runtime=onnxruntime"], "runtime=onnxruntime holds its weights itself"),
        (["runtime/weights=nf4"], "cannot move packed weights, such as nf4: use runtime/weights=full"),
        (["runtime/weights=gptq"], "cannot move packed weights, such as gptq: use runtime/weights=full"),
        (["runtime/weights=awq"], "cannot move packed weights, such as awq: use runtime/weights=full"),
        (["runtime/weights=rounded"], "cannot move dense weights, such as rounded: use runtime/weights=full"),
    ],
)
def test_what_ranks_cannot_compute_is_refused(artifacts: Path, words: list[str], says: str) -> None:
    made = cell(*words, "runtime/placement=tensor_parallel", "model=random", artifacts=artifacts)
    with pytest.raises(Unsupported, match=says):
        make_runtime(made.config.runtime)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("generation.prefill_chunk=8", "runtime=llama_server decides itself how it runs a prompt: use generation"),
        ("generation.kv_cache=false", "runtime=llama_server keeps a cache of its own: use generation.kv_cache=true"),
    ],
)
def test_how_texts_are_generated_is_refused_where_an_engine_decides_it(artifacts: Path, option: str, says: str) -> None:
    made = cell("runtime=llama_server", "model=random", option, artifacts=artifacts)
    config = made.config.runtime
    with pytest.raises(Unsupported, match=says):
        load(made, make_runtime(config), config, made.hardware("cpu"), lambda name: nullcontext())


def test_ranks_take_no_stored_packed_weights(quantized: Path, artifacts: Path) -> None:
    words = ("runtime/placement=tensor_parallel", "model=local", f"model.path={quantized}")
    made = cell(*words, artifacts=artifacts)
    config = made.config.runtime
    with pytest.raises(Unsupported, match=r"runtime/placement=tensor_parallel cannot move stored awq weights"):
        load(made, make_runtime(config), config, made.hardware("cpu"), lambda name: nullcontext())


def test_an_unknown_architecture_is_reported_in_one_line(artifacts: Path) -> None:
    made = cell("model=random", "model.architecture.model_type=llamma", artifacts=artifacts)
    config = made.config.runtime
    with pytest.raises(Unsupported, match="model_type=llamma with these values is unknown to transformers"):
        load(made, make_runtime(config), config, made.hardware("cpu"), lambda name: nullcontext())


class Broken(Eager):
    """A fake of an engine whose author made a mistake."""

    def __init__(self, dtype: str = "float32"):
        super().__init__(dtype)
        len(3)  # type: ignore[arg-type]


def test_a_type_error_inside_a_constructor_is_an_error(artifacts: Path) -> None:
    target = "runtime.engine.target=tests.experiments.execution.worker.test_loading:Broken"
    made = cell("runtime=custom", target, "model=random", artifacts=artifacts)
    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)") as caught:
        make_runtime(made.config.runtime)
    assert loading.classify(caught.value)[0] == "error"


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 4294967",
        "bfc_arena.cc:376 Available memory of 0 is smaller than requested bytes of 1048576",
        "std::bad_alloc",
        "[Errno 12] Cannot allocate memory",
    ],
)
def test_messages_of_all_libraries_for_out_of_memory_are_recognized(said: str) -> None:
    assert loading.classify(RuntimeError(said)) == ("out_of_memory", said)


def test_other_exceptions_have_the_status_error() -> None:
    assert loading.classify(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"))[0] == "error"


def test_custom_weights_may_have_any_name(artifacts: Path) -> None:
    words = ("runtime.weights.target=runtimes.weights.rounded:Rounded", "+runtime.weights.bits=3")
    made = make_runtime(cell("runtime=eager", *words, "model=random", artifacts=artifacts).config.runtime)
    assert isinstance(made, Eager)
    assert isinstance(made._loader.weights, Rounded)


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ([], HeldWeights(form="dense", keeps_values=True, is_whole=True)),
        (["runtime=offload"], HeldWeights(form="dense", keeps_values=True, is_whole=False)),
        (["runtime/weights=rounded"], HeldWeights(form="dense", keeps_values=False, is_whole=True)),
        (["runtime=nf4"], HeldWeights(form="packed", keeps_values=False, is_whole=True)),
        (["runtime=onnxruntime_w4"], HeldWeights(form="onnx", keeps_values=False, is_whole=True)),
        (["runtime=llamacpp"], HeldWeights(form="dense", keeps_values=True, is_whole=True)),
        (["runtime=llamacpp_q4_0"], HeldWeights(form="gguf", keeps_values=False, is_whole=True)),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_how_weights_are_held_is_declared_by_their_class(words: list[str], held: HeldWeights, artifacts: Path) -> None:
    runtime = cell(*words, "model=random", artifacts=artifacts).config.runtime
    assert loading.held_weights(runtime) == held
    assert loading.held_weights(runtime, "gptq").form == "packed"  # stored so: a dense class only reads them


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["runtime.engine.attention=flash_attention_2"], "flash_attention_2 needs a CUDA device, .*: sdpa was used"),
        (["runtime=compile", "runtime.engine.mode=cuda_graph"], "has CUDA graphs on a GPU only: none were used"),
    ],
)
def test_a_fallback_is_noted(artifacts: Path, words: list[str], note: str) -> None:
    made = cell(*words, "model=random", artifacts=artifacts)
    config = made.config.runtime
    traits = load(made, make_runtime(config), config, made.hardware("cpu"), lambda name: nullcontext())
    assert any(re.search(note, one) for one in traits.notes), traits.notes


def test_another_dtype_is_compared_with_the_reference_in_both_dtypes(run: Run, tmp_path: Path) -> None:
    done = run("runtime.dtype=bfloat16", "model=random", "benchmark=[memory]", "model.architecture.num_hidden_layers=2")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    (agreement,) = [one for one in record["benchmarks"] if one["benchmark"] == "agreement"]  # type: ignore[attr-defined]
    same = agreement["figures"]["same_dtype"]
    assert (same["reference"], same["dtype"]) == ("eager", "bfloat16")
    # The same engine in the same dtype: only what padding does to the order of sums is left.
    assert same["max_logit_difference"] < agreement["figures"]["max_logit_difference"]


@pytest.mark.parametrize("kind", ["Responses", "Observations"])
def test_responses_of_other_instruction_sets_are_not_reused(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made, identities = cell("runtime=fake", "model=random", artifacts=artifacts), []

    def cache(path: Path | None, identity: dict[str, object], uses: bool) -> None:
        assert path == artifacts / f"{kind.lower()}.sqlite"
        identities.append(identity)

    monkeypatch.setattr(loading, kind, cache)
    here = environment()
    for sets in (["avx2"], ["avx2", "avx512f"]):
        getattr(loading, f"make_{kind.lower()}")(made, replace(here, instruction_sets=sets))
    assert identities[0]["machine"] != identities[1]["machine"]
    assert identities[0] | {"machine": None} == identities[1] | {"machine": None}


def test_batch_auto_is_measured_and_recorded(run: Run, tmp_path: Path) -> None:
    short = ("benchmark.throughput.requests=4", "benchmark.throughput.new_tokens=4")
    done = run("batch=auto", "model=random", "benchmark=[throughput]", "model.architecture.num_hidden_layers=2", *short)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    fit = record["fit"]
    assert isinstance(fit, dict)
    assert fit["token_budget"] >= 4096
    assert fit["bytes_per_token"] > 0
