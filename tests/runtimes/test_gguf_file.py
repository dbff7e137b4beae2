"""GGUF files: what is in them, what is not written, and that a second load finds them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.runtimes import artifacts as cached
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported, Weights
from runtime_matrix.runtimes.weights import gguf_file, gguf_tensors, gguf_tokenizer
from runtime_matrix.runtimes.weights.full import Full
from runtime_matrix.runtimes.weights.gguf_blocks import Blocks
from runtime_matrix.runtimes.weights.rounded import Rounded

gguf = pytest.importorskip("gguf")
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def written(model: ModelSource, folder: Path, weights: Weights | None = None, dtype: str = "float32") -> Any:
    """Return the reader of the model's file."""
    hardware = Hardware("cpu", 1, folder)
    return gguf.GGUFReader(gguf_file.written(model, weights or Full(), dtype, hardware, lambda name: nullcontext()))


def values(reader: Any, name: str) -> torch.Tensor:
    (tensor,) = (tensor for tensor in reader.tensors if tensor.name == name)
    return torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())


def random_llama(**options: Any) -> ModelSource:
    return ModelSource(json.dumps(options), architecture=LLAMA | options)


def module(model: ModelSource, folder: Path) -> Any:
    return Full().load(LoadRequest(model, "float32", "sdpa", Hardware("cpu", 1, folder)))


def test_the_values_are_the_model_s_and_heads_are_interleaved(artifacts: Path) -> None:
    model = ModelSource("bundled", BUNDLED / "model")
    reader, stored = written(model, artifacts), module(model, artifacts).state_dict()
    assert torch.equal(values(reader, "token_embd.weight"), stored["model.embed_tokens.weight"])
    assert torch.equal(values(reader, "blk.3.ffn_down.weight"), stored["model.layers.3.mlp.down_proj.weight"])
    assert torch.equal(values(reader, "output_norm.weight"), stored["model.norm.weight"])
    key = stored["model.layers.0.self_attn.k_proj.weight"]  # two heads, 64 wide
    rows = [head * 64 + half * 32 + at for head in range(2) for at in range(32) for half in range(2)]
    assert torch.equal(values(reader, "blk.0.attn_k.weight"), key[rows])
    assert len(reader.tensors) == len(stored)


def test_a_byte_level_tokenizer_is_written_with_its_special_tokens(artifacts: Path) -> None:
    reader = written(ModelSource("bundled", BUNDLED / "model"), artifacts)
    fields = {name: reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("model", "pre", "tokens", "merges")}
    tokenizer = json.loads((BUNDLED / "model" / "tokenizer.json").read_text())
    assert (fields["model"], fields["pre"]) == ("gpt2", "gpt-2")
    assert fields["tokens"][tokenizer["model"]["vocab"]["Ġthe"]] == "Ġthe"
    assert len(fields["tokens"]) == 2048
    assert fields["merges"][0] == " ".join(tokenizer["model"]["merges"][0])
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert types[:3] == [gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL]


@pytest.mark.parametrize(
    "tokenizer",
    [
        {},
        {"model": {"type": "Unigram"}},
        {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Metaspace"}},
        {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}, "normalizer": {"type": "NFC"}},
    ],
)
def test_rules_that_llama_cpp_may_not_share_are_no_tokenizer(tokenizer: dict[str, Any]) -> None:
    assert gguf_tokenizer.splitting(tokenizer) is None


@pytest.mark.parametrize(
    ("kind", "output", "most_error"), [("Q8_0", "Q8_0", 0.005), ("Q4_0", "Q8_0", 0.08)], ids=["Q8_0", "Q4_0"]
)
def test_matrices_are_quantized_and_norms_are_not(kind: str, output: str, most_error: float, artifacts: Path) -> None:
    model = random_llama()
    reader, stored = written(model, artifacts, Blocks(kind)), module(model, artifacts).state_dict()
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.ffn_up.weight"] == types["token_embd.weight"] == kind
    assert types["output.weight"] == output
    assert types["blk.0.attn_norm.weight"] == "F32"
    exact = stored["model.layers.0.mlp.up_proj.weight"]
    errors = (values(reader, "blk.0.ffn_up.weight") - exact).abs().reshape(96, -1, 32)
    largest = exact.abs().reshape(96, -1, 32).amax(2, keepdim=True)
    assert 0 < float((errors / largest).max()) < most_error * 1.7  # half a step of 1/127 or 1/8 of the largest weight


def test_a_tied_embedding_is_written_once_with_the_bits_of_an_output_layer(artifacts: Path) -> None:
    reader = written(random_llama(tie_word_embeddings=True), artifacts, Blocks("Q4_0"))
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["token_embd.weight"] == "Q8_0"
    assert "output.weight" not in types


def test_half_precision_is_stored_in_the_dtype(artifacts: Path) -> None:
    model = random_llama()
    exact = module(model, artifacts).state_dict()["model.layers.0.mlp.up_proj.weight"]
    for dtype in (torch.float16, torch.bfloat16):
        reader = written(model, artifacts, dtype=str(dtype).removeprefix("torch."))
        assert torch.equal(values(reader, "blk.0.ffn_up.weight"), exact.to(dtype).float())


def test_dense_weights_of_any_kind_are_written(artifacts: Path) -> None:
    model = random_llama()
    rounded = values(written(model, artifacts, Rounded(3)), "blk.0.ffn_up.weight")
    assert all(len(row.unique()) <= 7 for row in rounded)


def test_a_second_load_finds_the_file(tmp_path: Path) -> None:
    model, hardware, before = random_llama(), Hardware("cpu", 1, tmp_path), dict(cached.tally)
    files = [gguf_file.written(model, Full(), "float32", hardware, lambda name: nullcontext()) for _ in range(2)]
    assert files[0] == files[1]
    assert cached.tally["built"] - before["built"] == 1
    assert cached.tally["found"] - before["found"] == 1
    other = gguf_file.written(model, Blocks("Q8_0"), "float32", hardware, lambda name: nullcontext())
    assert other != files[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model_type": "qwen2"}, "for the model type llama, not qwen2"),
        ({"hidden_act": "gelu"}, "activation silu, and the model has gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "type yarn is not written"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "type dynamic is not written"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=says) as raised:
        written(random_llama(**options), tmp_path)
    assert "\n" not in str(raised.value)


def test_rows_that_do_not_divide_into_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Unsupported, match=r"Q8_0 has blocks of 32 weights, and the rows of blk.0.ffn_down.weight have 80"
    ):
        written(random_llama(intermediate_size=80), tmp_path, Blocks("Q8_0"))
    assert not list((tmp_path / "gguf").glob("*/*"))  # nothing half-written is left


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"tensor_type=Q4_K is unknown: use Q8_0, Q5_1, Q5_0, Q4_1, Q4_0"):
        Blocks("Q4_K")


def test_a_gguf_file_is_used_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "given.gguf"
    model, hardware = ModelSource("given", file), Hardware("cpu", 1, tmp_path)
    assert gguf_file.written(model, Full(), "float32", hardware, lambda name: nullcontext()) == file
    for weights in (Blocks("Q8_0"), Rounded(4)):
        with pytest.raises(
            Unsupported, match=r"given.gguf already holds its weights as GGUF: use runtime/weights=full"
        ):
            gguf_file.written(model, weights, "float32", hardware, lambda name: nullcontext())


def test_scaled_frequencies_are_factors_of_the_plain_ones() -> None:
    from transformers import LlamaConfig

    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert gguf_tensors.frequency_factors(LlamaConfig(rope_parameters=plain)) is None
    linear = LlamaConfig(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0})
    factors = gguf_tensors.frequency_factors(linear)
    assert factors is not None
    torch.testing.assert_close(factors, torch.full((64,), 4.0))
