"""Inspect a GGUF file without torch: its limits, its digest, and whether it is whole. Needs the package gguf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config import gguf_tokenizer
from runtime_matrix.experiments.config.digests import content_digests, short
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import ModelFacts, ModelShape
from runtime_matrix.runtimes.gguf_header import GgufError, GgufHeader, read_header

_FLOATS = ("F32", "F16", "BF16")  # types that are not a quantization
_EMBEDDING = "token_embd.weight"  # (vocabulary, hidden size)
_END_KEYS = ("eos", "eot", "eom")  # tokens that end a text, a turn or a message
_MOST = 2**31
_TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class _File:
    path: Path
    header: GgufHeader

    def mistake(self, reason: str) -> UserError:
        return UserError(f"model.path={self.path} is no model that can be run: {reason}")

    def number(self, key: str) -> int | None:
        """Return a size; None without it. UserError for an impossible one."""
        value = self.header.of_architecture(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _MOST:
            raise self.mistake(f"{self.header.architecture}.{key} is {value!r}, not a number from 1 to {_MOST - 1:,}")
        return value

    def token_id(self, name: str, vocabulary: int) -> int | None:
        value = self.header.values.get(f"tokenizer.ggml.{name}_token_id")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocabulary:
            raise self.mistake(f"tokenizer.ggml.{name}_token_id is {value!r}, of {vocabulary:,} tokens")
        return value


def inspect_file(path: Path, artifacts: Path, tokenizer: Path | None, reference: Path | None = None) -> ModelFacts:
    """Check a GGUF file. UserError for a file that is damaged or no language model, and for other tokenizers than its.

    `tokenizer` is a folder that replaces the file's own tokenizer, and `reference` one whose tokenizer has to agree;
    the file's own is converted into `artifacts`, where digests are cached too.
    """
    file = _opened(path)
    vocabulary = _vocabulary(file)
    (content,) = content_digests([path], artifacts)
    chosen = gguf_tokenizer.choose(path, file.header, content, vocabulary, artifacts, tokenizer, reference)
    first = file.token_id("bos", vocabulary)
    ends = (file.token_id(name, vocabulary) for name in _END_KEYS)
    return ModelFacts(
        folder=path,
        model_type=file.header.architecture,
        max_length=file.number("context_length"),
        vocabulary=vocabulary,
        bos_id=None if file.header.values.get("tokenizer.ggml.add_bos_token") is False else first,
        eos_ids=tuple(dict.fromkeys(end for end in ends if end is not None)),
        digest=short(f"{content}\n{chosen.digest or ''}"),
        weight_disk_bytes=path.stat().st_size,
        tokenizer=chosen.folder,
        tokenizer_problem=chosen.problem,
        shape=_shape(file, vocabulary),
        quantized=None if file.header.main_type in _FLOATS else f"gguf {file.header.main_type}",
        parameters=file.header.weights,
    )


def _opened(path: Path) -> _File:
    if not path.is_file():
        raise UserError(f"model.path={path} is not a file: give a GGUF file, or a folder that holds config.json")
    try:
        header = read_header(path)
    except GgufError as error:
        raise UserError(f"model.path={path} is not a GGUF file that can be read: {error}") from error
    except ImportError as error:
        raise UserError(f"model.path={path} needs gguf: pip install 'runtime-matrix[llamacpp]'") from error
    except OSError as error:
        raise UserError(f"model.path={path} cannot be read: {error.strerror or error}") from error
    file = _File(path, header)
    if not header.architecture.replace("-", "_").replace(".", "_").isidentifier():
        raise file.mistake(f"general.architecture is {header.architecture[:40]!r}")
    kind, parts = header.values.get("general.type", "model"), header.values.get("split.count", 1)
    if kind != "model":
        raise file.mistake(f"general.type is {str(kind)[:40]!r}, not 'model'")
    if parts not in (0, 1):
        raise file.mistake(f"it is one of {parts} parts: join them with llama.cpp's llama-gguf-split --merge")
    return file


def _vocabulary(file: _File) -> int:
    """Return the number of rows of the embedding, which the list of tokens must not exceed."""
    shape = next((tensor.shape for tensor in file.header.tensors if tensor.name == _EMBEDDING), None)
    if shape is None or len(shape) != 2:
        raise file.mistake(f"it has no matrix {_EMBEDDING}, as language models do")
    tokens, stated = file.header.lengths.get(_TOKENS, 0), file.number("vocab_size")
    for what, size in (("tokens", tokens), ("tokens by its vocab_size", stated or 0)):
        if size > shape[0]:
            raise file.mistake(f"it has {size:,} {what}, and {_EMBEDDING} has {shape[0]:,} rows")
    return shape[0]


def _shape(file: _File, vocabulary: int) -> ModelShape | None:
    """Return the sizes, under transformers' names; None if one is missing or differs by layer."""
    keys = {
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "hidden_size": "embedding_length",
    }
    if any(f"{file.header.architecture}.{key}" in file.header.lengths for key in keys.values()):
        return None
    sizes = {name: file.number(key) for name, key in keys.items()}
    given = {name: size for name, size in sizes.items() if size is not None}
    return ModelShape.of({**given, "vocab_size": vocabulary, "tie_word_embeddings": file.header.is_tied})
