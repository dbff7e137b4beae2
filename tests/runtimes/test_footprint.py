"""Declared footprints follow from a model's sizes, and agree with what modules, caches and files really take."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes import artifacts, heap
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.engines.torch_module import TorchLoader
from runtime_matrix.runtimes.footprint import Load, ModelSizes, WeightFootprint, sizes_of
from runtime_matrix.runtimes.placements.offload import Offload
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.gguf_blocks import Blocks
from runtime_matrix.runtimes.weights.onnx_packed import Blocks as GraphBlocks
from runtime_matrix.runtimes.weights.torchao import TorchAo

ARCHITECTURE = {
    "model_type": "llama",
    "vocab_size": 640,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
MODEL = ModelSource("a digest", architecture=ARCHITECTURE)
LOAD = Load(rows=4, prompt_tokens=30, new_tokens=10)


def sizes(is_tied: bool = False, stored_dtype: str | None = None, **changes: Any) -> ModelSizes:
    model = ModelSource("a digest", architecture={**ARCHITECTURE, "tie_word_embeddings": is_tied, **changes})
    shapes = {name: list(weight.shape) for name, weight in full.outline(model, "float32").named_parameters()}
    return sizes_of(
        shapes,
        vocabulary=640,
        layers=3,
        heads=4,
        kv_heads=2,
        head_width=16,
        hidden=64,
        is_tied=is_tied,
        stored_dtype=stored_dtype,
    )


@pytest.fixture
def hw(tmp_path: Path) -> Hardware:
    return Hardware("cpu", 1, tmp_path)


def test_all_weights_are_counted_once() -> None:
    attention, network = 2 * 64 * 64 + 2 * 64 * 32, 3 * 64 * 160
    found = sizes()
    assert found.linear == 3 * (attention + network)
    assert (found.embedding, found.head, found.rest) == (640 * 64, 640 * 64, (2 * 3 + 1) * 64)
    assert (found.largest, found.widest) == (64 * 160, 160)
    tied = sizes(is_tied=True)
    assert (tied.embedding, tied.head, tied.weights) == (640 * 64, 0, found.weights - 640 * 64)


def test_a_stored_head_that_is_tied_does_not_count() -> None:
    shapes = {"model.embed_tokens.weight": [640, 64], "lm_head.weight": [640, 64], "model.norm.weight": [64]}
    found = sizes_of(
        shapes,
        vocabulary=640,
        layers=3,
        heads=4,
        kv_heads=2,
        head_width=16,
        hidden=64,
        is_tied=True,
        stored_dtype=None,
    )
    assert (found.embedding, found.head) == (640 * 64, 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_tied", [False, True])
def test_dense_weights_take_what_the_module_has(hw: Hardware, dtype: str, is_tied: bool) -> None:
    model = ModelSource("d", architecture={**ARCHITECTURE, "tie_word_embeddings": is_tied})
    module = full.load_module(LoadRequest(model, dtype, "sdpa", hw))
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    assert full.weight_bytes(module) - buffers == sizes(is_tied).dense_bytes(dtype)


def test_keys_and_values_take_what_the_cache_has() -> None:
    cache = SlotCache.empty(full.random_config(ARCHITECTURE), LOAD.rows, LOAD.capacity, torch.float32, "cpu")
    held = sum(part.numel() * part.element_size() for part in (*cache.keys, *cache.values))
    assert sizes().cache_bytes(LOAD, "float32") == held
    assert sizes().cache_bytes(LOAD, "bfloat16") == held / 2


def test_weights_of_another_dtype_than_the_file_are_in_memory_twice_while_loading() -> None:
    same, other = (full.Full().footprint(sizes(stored_dtype=dtype), "float32") for dtype in ("float32", "bfloat16"))
    assert same.held_bytes == other.held_bytes == sizes().dense_bytes("float32")
    assert same.load_bytes == 0  # the file's pages are read at the first forward
    assert other.load_bytes == 1.5 * other.held_bytes


def test_packed_weights_leave_the_mapped_file_where_others_keep_it() -> None:
    mapped, cast = (TorchAo("int8").footprint(sizes(stored_dtype=dtype), "float32") for dtype in ("float32", None))
    assert mapped is not None
    assert cast is not None
    packed = sizes().linear + sizes().head
    assert mapped.held_bytes == sizes().dense_bytes("float32") + packed
    assert cast.held_bytes == mapped.held_bytes - 4 * packed
    assert TorchAo("int4").footprint(sizes(), "float32") is None  # not predictable


def test_packed_weights_alone_give_freed_memory_back(monkeypatch: pytest.MonkeyPatch, hw: Hardware) -> None:
    calls: list[str] = []
    monkeypatch.setattr(heap, "return_freed", lambda: calls.append("returned"))
    for weights, expected in ((full.Full(), 0), (TorchAo("int8"), 1)):
        TorchLoader("float32", "sdpa", weights).load(MODEL, hw, lambda name: nullcontext())
        assert len(calls) == expected


def test_a_quantized_gguf_file_has_the_declared_size(hw: Hardware) -> None:
    pytest.importorskip("gguf")
    from runtime_matrix.runtimes.gguf_header import read_header
    from runtime_matrix.runtimes.weights import gguf_file

    for kind in ("Q8_0", "Q4_0"):
        weights = Blocks(kind)
        file = gguf_file.written(MODEL, weights, "float32", hw, full_phase)
        held = sum(tensor.bytes for tensor in read_header(file).tensors if not tensor.name.startswith("rope_"))
        assert weights.footprint(sizes(), "float32").held_bytes == held
        assert gguf_file.is_written(MODEL, weights, "float32", hw)
    assert not gguf_file.is_written(MODEL, Blocks("Q5_0"), "float32", hw)


def full_phase(name: str) -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_blocks_of_a_graph_have_their_bits_and_scales() -> None:
    weights = GraphBlocks(bits=8, block_size=32).footprint(sizes(), "float32")
    packed, rest = sizes().linear + sizes().head, sizes().embedding + sizes().rest
    assert weights.held_bytes == packed * (1 + 4 / 32) + 4 * rest


def test_layers_on_disk_leave_memory_and_one_of_them_is_read_at_a_time() -> None:
    weights = WeightFootprint(held_bytes=1000.0, load_bytes=2000.0)
    layer = 4 * sizes().linear / 3
    left = Offload(layers=1, to="disk").footprint(replace(weights, held_bytes=1e6), sizes(), "float32")
    assert left == WeightFootprint(1e6 - layer, 2000.0, layer)
    assert Offload(max_memory={"cpu": "1GB"}).footprint(weights, sizes(), "float32") is None


def test_a_larger_load_takes_more_and_an_engine_that_declares_nothing_is_unknown(hw: Hardware) -> None:
    def peak(load: Load) -> float:
        found = Eager().footprint(MODEL, sizes(), load, hw)
        assert found is not None
        return found.run_bytes

    assert peak(LOAD) < peak(replace(LOAD, rows=8)) < peak(replace(LOAD, rows=8, prompt_tokens=60))
    cache = sizes().cache_bytes(replace(LOAD, new_tokens=1000), "float32") - sizes().cache_bytes(LOAD, "float32")
    assert peak(replace(LOAD, new_tokens=1000)) - peak(LOAD) == cache
    assert Fake().footprint(MODEL, sizes(), LOAD, hw) is None


def test_weights_without_a_footprint_make_the_engine_unknown(hw: Hardware) -> None:
    class Undeclared:
        form, keeps_values, needs_calibration, packages = "dense", True, False, ()

    assert Eager(weights=Undeclared()).footprint(MODEL, sizes(), LOAD, hw) is None  # type: ignore[arg-type]


def test_what_is_cached_takes_less_than_what_must_be_built(hw: Hardware) -> None:
    from runtime_matrix.runtimes.engines import onnx_graph
    from runtime_matrix.runtimes.engines.graph_forms import Past
    from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime

    pytest.importorskip("onnxscript")
    engine, found = OnnxRuntime(), sizes(stored_dtype="float32")
    cold = engine.footprint(MODEL, found, LOAD, hw)
    key = onnx_graph._made_from(MODEL, full.Full(), "float32", Past())
    artifacts.entry(hw.artifacts, "onnx", key, lambda folder: None)
    warm = engine.footprint(MODEL, found, LOAD, hw)
    assert cold is not None
    assert warm is not None
    assert cold.load_bytes - warm.load_bytes > 1.5 * found.dense_bytes("float32")
