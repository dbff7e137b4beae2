from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.worker.loading import make_runtime
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported, Weights
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.bitsandbytes import BitsAndBytes
from runtime_matrix.runtimes.weights.full import Full, weight_bytes
from runtime_matrix.runtimes.weights.gptq import Gptq
from runtime_matrix.runtimes.weights.onnx_packed import Blocks, DynamicInt8
from runtime_matrix.runtimes.weights.rounded import Rounded, round_to_nearest
from runtime_matrix.runtimes.weights.torchao import TorchAo


def source(folder: Path) -> ModelSource:
    return ModelSource("tiny", folder, None, 0)


def test_fewer_bits_and_larger_groups_round_more() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    errors = [float((round_to_nearest(weight, bits) - weight).abs().mean()) for bits in (8, 4, 3, 2)]
    assert errors == sorted(errors)
    assert float((round_to_nearest(weight, 4, 32) - weight).abs().mean()) < errors[1]
    assert len(round_to_nearest(weight[:1], 3).unique()) <= 7


def test_the_linear_layers_are_rounded_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    hardware = Hardware("cpu", 1, tmp_path)
    rounded = dict(Rounded(3).load(LoadRequest(source(tiny_model), "float32", "sdpa", hardware)).named_parameters())
    kept = dict(Full().load(LoadRequest(source(tiny_model), "float32", "sdpa", hardware)).named_parameters())
    changed = {name for name, weight in kept.items() if not torch.equal(weight, rounded[name])}
    assert changed == {name for name, weight in kept.items() if weight.ndim == 2 and "embed_tokens" not in name}


@pytest.mark.parametrize(
    ("options", "says"), [({"bits": 1}, "2 to 8 bits, not 1"), ({"bits": 4, "group_size": 48}, "does not divide")]
)
def test_what_cannot_be_rounded_says_what_can(
    tiny_model: Path, tmp_path: Path, options: dict[str, int], says: str
) -> None:
    with pytest.raises(Unsupported, match=says):
        Rounded(**options).load(LoadRequest(source(tiny_model), "float32", "sdpa", Hardware("cpu", 1, tmp_path)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runtime=onnxruntime", "runtime/weights=nf4"], "takes dense or onnx weights, but nf4 weights are packed"),
        (["runtime=onnxruntime", "runtime/weights=gguf_q8_0"], "but gguf_q8_0 weights are gguf: docs/runtimes.md"),
        (["runtime=llamacpp", "runtime/weights=nf4"], "takes dense or gguf weights, but nf4 weights are packed"),
        (["runtime=llamacpp", "runtime/placement=host"], "runtime=llamacpp holds its weights itself"),
        (["runtime=eager", "runtime/weights=w8a8"], "takes dense or packed weights, but w8a8 weights are onnx"),
        (["runtime/weights=w4a8", "runtime=onnxruntime", "runtime.weights.bits=3"], "4 and 8 bits, not 3"),
        (["runtime/weights=w4a8", "runtime=onnxruntime", "runtime.weights.block_size=24"], "power of two"),
        (["runtime=gptq", "runtime.weights.bits=5"], "gptq has 2, 3, 4, 8 bits, not 5"),
        (["runtime=awq", "runtime.weights.bits=3"], "awq has 4 bits, not 3"),
        (["runtime/weights=nf4", "runtime.weights.scheme=nf5"], "known: nf4, int8"),
        (["runtime/weights=torchao_int8", "runtime.weights.scheme=int9"], "known: int8, int8_dynamic, int4"),
        (["runtime=offload", "runtime.placement.to=cloud"], "known: host, disk"),
        (["runtime=offload", "runtime.placement.layers=null"], "needs either runtime.placement.layers=N"),
        (["runtime=compile", "runtime/placement=disk"], "runtime=compile holds its weights itself"),
        (["runtime=onnxruntime", "runtime/placement=host"], "runtime=onnxruntime holds its weights itself"),
        (["runtime=offload", "runtime/weights=nf4"], "runtime/placement=disk cannot move packed weights, such as nf4"),
        (["runtime=eager", "+runtime.engine.colour=red"], "does not take these options"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(words: list[str], says: str) -> None:
    config: CellConfig = build(CellConfig, compose([*words, "model=random"]))
    with pytest.raises(Unsupported, match=says):
        make_runtime(config.runtime)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_a_graph_packed_in_blocks_answers_nearly_as_the_dense_one(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("onnxruntime")
    _check_graph(Blocks(bits, 32), tmp_path)


@pytest.mark.slow
def test_a_graph_packed_to_int8_answers_nearly_as_the_dense_one(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    _check_graph(DynamicInt8(), tmp_path)


def _check_graph(weights: Blocks | DynamicInt8, artifacts: Path) -> None:
    """The bundled model's words: the same top token nearly everywhere, in fewer bytes."""
    from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime

    model, hardware = ModelSource("bundled", BUNDLED / "model", None, 0), Hardware("cpu", 1, artifacts)
    ids_BT = torch.arange(300, 364)[None]
    at_BK = torch.arange(64)[None]
    logits, sizes = [], []
    for one in (None, weights):
        runtime = OnnxRuntime(weights=one)
        traits = runtime.load(model, hardware, lambda name: nullcontext())
        logits.append(runtime.forward(ids_BT, [64], None, at_BK).logits_BKV)
        sizes.append(traits.weight_bytes or 0)
        runtime.close()
    assert sizes[1] < sizes[0] / 2
    same_top = (logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean()
    assert float(same_top) > 0.8
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", ["torchao_int8", "torchao_int4", "nf4", "gptq", "awq"])
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config: CellConfig = build(CellConfig, compose([f"runtime/weights={name}", "model=random"]))
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    runtime = make_runtime(config.runtime)
    with pytest.raises(Unsupported, match=r"pip install 'runtime-matrix\[(quant|gptq|awq)\]'"):
        runtime.load(
            ModelSource("d", BUNDLED / "model", None, 0), Hardware("cpu", 1, tmp_path), lambda n: nullcontext()
        )


@pytest.mark.parametrize(
    ("weights", "package"),
    [
        (TorchAo("int8"), "torchao"),
        (TorchAo("int4"), "torchao"),
        (BitsAndBytes("nf4"), "bitsandbytes"),
        (BitsAndBytes("int8"), "bitsandbytes"),
    ],
    ids=["int8", "int4", "nf4", "bnb_int8"],
)
def test_packed_modules_answer_nearly_as_the_dense_one(weights: Weights, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    model, hardware = ModelSource("bundled", BUNDLED / "model", None, 0), Hardware("cpu", 1, tmp_path)
    ids_BT = torch.arange(300, 364)[None]
    with torch.inference_mode():
        packed = weights.load(LoadRequest(model, "float32", "sdpa", hardware))
        dense = Full().load(LoadRequest(model, "float32", "sdpa", hardware))
        same_top = (packed(ids_BT).logits.argmax(-1) == dense(ids_BT).logits.argmax(-1)).float().mean()
    assert float(same_top) > 0.8
    assert weight_bytes(packed) < weight_bytes(dense) / 2


def test_a_short_calibration_text_says_how_long_it_must_be(tmp_path: Path) -> None:
    if importlib.util.find_spec("gptqmodel") is None:  # importing it here would patch transformers
        pytest.skip("gptqmodel is not installed: pip install 'runtime-matrix[gptq]'")
    with pytest.raises(Unsupported, match="has 10 tokens and gptq needs 4096"):
        Gptq().load(
            LoadRequest(source(BUNDLED / "model"), "float32", "sdpa", Hardware("cpu", 1, tmp_path), [list(range(10))])
        )


def test_layers_too_narrow_for_a_block_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(Unsupported, match=r"packs 64 weights at once; .* is 32 wide"):
        BitsAndBytes("nf4").load(LoadRequest(source(tiny_model), "float32", "sdpa", Hardware("cpu", 1, tmp_path)))


def test_large_random_models_are_drawn_alike_by_any_number_of_threads() -> None:
    shape = {
        **{"model_type": "qwen2", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
    }
    model = ModelSource("drawn", None, shape, 3)
    one, two = (full._drawn(model, threads).state_dict() for threads in (1, 2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = full._drawn(ModelSource("drawn", None, shape, 4), 1).state_dict()
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    usual = full._random(model).state_dict()  # as transformers initialises it
    assert one.keys() == usual.keys()
    for name, tensor in usual.items():
        drawn = one[name].float()
        assert (drawn.shape, drawn.mean().item()) == (tensor.shape, pytest.approx(tensor.mean().item(), abs=3e-3)), name
        assert drawn.std().item() == pytest.approx(tensor.std().item(), abs=1e-3), name


@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_int4_on_a_gpu_needs_no_further_package(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a card, up to the point where CUDA itself is missing; torchao's default packing wants a further package."""
    pytest.importorskip("torchao")
    layer = torch.nn.Sequential(torch.nn.Linear(256, 256, dtype=torch.bfloat16))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(full, "load_module", lambda *given: layer)
    source = ModelSource("0" * 32, None, None, 0)
    with pytest.raises(Exception, match=r"(?i)cuda|capability") as raised:
        TorchAo("int4").load(LoadRequest(source, "bfloat16", "sdpa", Hardware("cuda", 1, tmp_path)))
    if capability < (8, 0):
        assert isinstance(raised.value, Unsupported)
        assert "compute capability 8.0" in str(raised.value)
    else:
        assert not isinstance(raised.value, ImportError | Unsupported)
        assert "cuda" in str(raised.value).lower()
