"""Writes the GGUF file of a Llama folder with the package `gguf`, independently of the program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NORMAL, CONTROL, BYTE = 1, 3, 6  # gguf.TokenType
GPT2, LLAMA = "gpt2", "llama"  # byte-level BPE, and sentencepiece


def write_gguf(
    folder: Path, file: Path, tensor_type: str = "F32", extra: Mapping[str, Any] | None = None, **changes: Any
) -> Path:
    """Write the model and tokenizer of `folder`, with matrices in ggml's `tensor_type`, and return `file`.

    `extra` are more arrays. `changes` are metadata that replace or add numbers and strings, by key with `__` for a dot;
    None removes one.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text())
    replaced = {key.replace("__", "."): value for key, value in changes.items()}
    writer = gguf.GGUFWriter(file, replaced.pop("general.architecture", "llama"))
    if (folder / "tokenizer.json").exists():
        _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), config)
    for key, value in (_shape(config) | replaced).items():
        writer.kv_data[0].pop(key, None)
        if value is not None:
            writer.add_key_value(key, value, _kind(value))
    for name, array in {**_tensors(folder, config), **(extra or {})}.items():
        kind = gguf.GGMLQuantizationType[tensor_type if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _shape(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": width,
        "llama.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "llama.vocab_size": config["vocab_size"],
    }


def _kind(value: Any) -> Any:
    from gguf import GGUFValueType

    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.UINT32,
        float: GGUFValueType.FLOAT32,
        str: GGUFValueType.STRING,
    }
    return kinds[type(value)]


def _add_tokenizer(writer: Any, tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Add the tokenizer: byte-level as `gpt2`, and one with bytes as `<0x00>` as `llama`, with scores by merges."""
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    ids = dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    is_byte_level = "<0x00>" not in ids
    writer.add_tokenizer_model(GPT2 if is_byte_level else LLAMA)
    writer.add_token_list(tokens)
    writer.add_token_types([
        CONTROL if ids[token] in special else BYTE if token.startswith("<0x") else NORMAL for token in tokens
    ])  # fmt: skip
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    if is_byte_level:
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(merges)
    else:
        order = {merge.replace(" ", ""): -float(index) for index, merge in enumerate(merges)}
        writer.add_token_scores([order.get(token, -1e9) for token in tokens])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def _tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the float32 arrays under GGUF's names, with the rows of queries and keys in ggml's order."""
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors.torch import load_file

    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for stored, values in load_file(folder / "model.safetensors").items():
        name, array = names.get_name(stored, try_suffixes=(".weight",)), values.float().numpy()
        assert name is not None
        kind = name.split(".")[-2]
        if kind in heads:
            rows, inputs = array.shape
            array = array.reshape(heads[kind], 2, rows // heads[kind] // 2, inputs).swapaxes(1, 2).reshape(rows, inputs)
        tensors[name] = array
    return tensors
