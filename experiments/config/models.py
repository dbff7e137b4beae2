"""Inspect a model's folder without torch: its limits, its digest, and whether its files are complete."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from runtime_matrix.experiments.config.digests import digest_of
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.runtimes import windows
from runtime_matrix.runtimes.gguf_header import is_gguf

_LENGTHS = ("max_position_embeddings", "n_positions")
_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", *_LENGTHS),
)
_MOST = 2**31  # bound of any size in a configuration
_TEXT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that determine the work per token."""

    layers: int
    kv_heads: int
    head_width: int
    hidden: int
    vocabulary: int
    is_tied: bool  # the output head shares the embedding's weights
    heads: int | None = None  # of queries; None in records of earlier versions

    @classmethod
    def of(cls, config: JsonObject) -> ModelShape | None:
        """Read the shape from a transformers configuration; None if its keys differ."""
        try:
            heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
            return cls(
                int(config["num_hidden_layers"]),
                int(config.get("num_key_value_heads") or heads),
                int(config.get("head_dim") or hidden // heads),
                hidden,
                int(config["vocab_size"]),
                bool(config.get("tie_word_embeddings", False)),
                heads,
            )
        except (KeyError, TypeError, ValueError):
            return None


class Tensor(TypedDict):
    """A tensor's entry in the header of a safetensors file."""

    dtype: str
    shape: list[int]


@dataclass(frozen=True)
class ModelFacts:
    """What a model's files state about it; None where they do not. `folder` may be a GGUF file."""

    folder: Path | None
    model_type: str
    max_length: int | None  # tokens
    vocabulary: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    digest: str
    weight_disk_bytes: int | None
    tokenizer: Path | None  # the folder that holds tokenizer.json
    shape: ModelShape | None = None
    quantized: str | None = None  # the quantization method of the stored weights, as its configuration names it
    parameters: int | None = None  # of a GGUF file; `stored_parameters` counts those of a folder
    tokenizer_problem: str | None = None  # why a GGUF file has no tokenizer, and what to do
    is_limited: bool = False  # `max_length` is that of `model.max_tokens`, not the model's own

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be converted to token ids."""
        return self.tokenizer is not None

    @property
    def stated_length(self) -> str:
        """Return what limits the tokens per row, for messages."""
        if self.is_limited:
            return f"model.max_tokens={self.max_length}"
        return f"the model's context of {self.max_length}"

    def limited(self, max_tokens: int | None) -> ModelFacts:
        """Return the facts with rows of at most `max_tokens` tokens; UserError if the model itself takes fewer."""
        if max_tokens is None:
            return self
        if self.max_length is not None and max_tokens > self.max_length:
            raise UserError(
                f"model.max_tokens={max_tokens} exceeds the model's context of {self.max_length}: lower it, or leave "
                "it out"
            )
        return replace(self, max_length=max_tokens, is_limited=True)

    @property
    def is_gguf(self) -> bool:
        """Whether `folder` is a GGUF file."""
        return self.folder is not None and is_gguf(self.folder)


def inspect_folder(folder: Path, cache: Path | None = None) -> ModelFacts:
    """Check a folder in Hugging Face's layout. UserError for missing, damaged or inconsistent files.

    Digests of files are cached in `cache` by path, size and modification time.
    """
    if not folder.is_dir():
        raise UserError(f"model.path={folder} is not a folder; give the folder that holds config.json")
    try:
        return _inspect(folder, cache)
    except UserError:
        raise
    except (AttributeError, TypeError, KeyError, ValueError, IndexError, RecursionError) as error:
        raise UserError(f"{folder} is not a readable model: {type(error).__name__}: {error}") from error


def _inspect(folder: Path, cache: Path | None) -> ModelFacts:
    files = sorted(filter(is_gguf, folder.iterdir()))
    if files and not (folder / "config.json").exists():
        raise UserError(f"{folder} has GGUF files and no config.json: name one, as in model.path={files[0]}")
    config = _json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"{folder / 'config.json'} has no model_type; give a model in the layout of Hugging Face")
    weights = _weights(folder)
    text = config.get("text_config") or config
    generation = _json(folder / "generation_config.json") if (folder / "generation_config.json").exists() else {}
    vocabulary = _size(folder, text, "vocab_size")
    max_length = _max_length(text)
    if max_length is not None:
        max_length = _size(folder, {"max_position_embeddings": max_length}, "max_position_embeddings")
    has_tokenizer = (folder / "tokenizer.json").exists()
    if has_tokenizer:
        check_tokenizer(folder / "tokenizer.json", vocabulary)
    files = [folder / name for name in _TEXT_FILES if (folder / name).exists()] + weights
    eos = generation.get("eos_token_id", config.get("eos_token_id"))
    return ModelFacts(
        folder=folder,
        model_type=str(config["model_type"]),
        max_length=max_length,
        vocabulary=vocabulary,
        bos_id=generation.get("bos_token_id", config.get("bos_token_id")),
        eos_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
        digest=digest_of(files, cache),
        weight_disk_bytes=sum(file.stat().st_size for file in weights),
        tokenizer=folder if has_tokenizer else None,
        shape=ModelShape.of(text),
        quantized=(config.get("quantization_config") or {}).get("quant_method"),
    )


def _max_length(config: JsonObject) -> Any:
    return next((config[key] for key in _LENGTHS if config.get(key) is not None), None)


def _size(folder: Path | str, config: JsonObject, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < _MOST:
        raise UserError(f"{folder}: {key} must be a number from 1 to {_MOST - 1:,}; found {value!r}")
    return value


def random_facts(architecture: JsonObject, seed: int) -> ModelFacts:
    """Return the facts of a model with seeded random weights; UserError for an impossible architecture."""
    for key in ("model_type", "vocab_size"):
        if key not in architecture:
            raise UserError(f"model.architecture has no {key}; set +model.architecture.{key}=…")
    _check_architecture(architecture)
    text = json.dumps([dict(architecture), seed], sort_keys=True)
    return ModelFacts(
        folder=None,
        model_type=str(architecture["model_type"]),
        max_length=_max_length(architecture),
        vocabulary=int(architecture["vocab_size"]),
        bos_id=None,
        eos_ids=(),
        digest=hashlib.sha256(text.encode()).hexdigest()[:32],
        weight_disk_bytes=None,
        tokenizer=None,
        shape=ModelShape.of(architecture),
    )


def _check_architecture(architecture: JsonObject) -> None:
    for key, value in architecture.items():
        if key in _SIZES and value is not None:
            _size("model.architecture", architecture, key)
    hidden, heads = architecture.get("hidden_size"), architecture.get("num_attention_heads")
    if hidden and heads and not architecture.get("head_dim") and hidden % heads:
        raise UserError(
            f"model.architecture.hidden_size={hidden} is not a multiple of num_attention_heads={heads}: change one"
        )


def check_layers(facts: ModelFacts, architecture: JsonObject | None) -> None:
    """Refuse layers that engines of limited layer types do not keep. A GGUF file names none. Raises UserError."""
    if facts.is_gguf:
        return
    config = architecture or {} if facts.folder is None else _json(facts.folder / "config.json")
    problem = windows.problem({"model_type": facts.model_type, **(config.get("text_config") or config)})
    if problem is not None:
        raise UserError(f"{facts.folder or 'model.architecture'}: {problem}")


def title(facts: ModelFacts, name: str) -> str:
    """Return a name with type and size, such as `Llama 3.4M (bundled)`."""
    kind = facts.model_type.replace("_", " ")
    count = facts.parameters
    if count is None and facts.folder is not None:
        count = stored_parameters(facts.folder)
    units = ((1e9, "B"), (1e6, "M"), (1e3, "K"))
    unit, suffix = next(((unit, suffix) for unit, suffix in units if (count or 0) >= unit), (1, ""))
    size = f" {count / unit:.3g}{suffix}" if count else ""
    return f"{kind[:1].upper()}{kind[1:]}{size} ({name})"


def stored_parameters(folder: Path) -> int | None:
    """Return the number of weights in a folder's safetensors files, tied ones counted once.

    None for packed weights, for models with parts besides the language model, and for other formats.
    """
    config, files = _json(folder / "config.json"), _weights(folder)
    is_tied = bool(config.get("tie_word_embeddings", False))
    if "text_config" in config or any(file.suffix != ".safetensors" for file in files):
        return None
    shapes: dict[str, int] = {}
    for file in files:
        for name, entry in _header(file).items():
            if not str(entry["dtype"]).startswith(("F", "BF")):
                return None
            shapes[name] = math.prod(entry["shape"])
    return sum(count for name, count in shapes.items() if not (is_tied and name == "lm_head.weight")) or None


def matrices(facts: ModelFacts) -> dict[str, list[int]] | None:
    """Return the shapes in a folder's safetensors files by name; None for packed weights and for other formats."""
    if facts.folder is None or facts.is_gguf or facts.quantized is not None:
        return None
    files = _weights(facts.folder)
    if any(file.suffix != ".safetensors" for file in files):
        return None
    return {name: entry["shape"] for file in files for name, entry in _header(file).items()}


def stored_dtype(facts: ModelFacts) -> str | None:
    """Return the dtype of all weights in a folder's safetensors files, by its name there, such as BF16; else None."""
    if matrices(facts) is None or facts.folder is None:
        return None
    dtypes = {entry["dtype"] for file in _weights(facts.folder) for entry in _header(file).values()}
    return dtypes.pop() if len(dtypes) == 1 else None


def _header(path: Path) -> dict[str, Tensor]:
    """Return the tensors that the header of a safetensors file lists."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _json(path: Path) -> JsonObject:
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}: it is not a model; give the folder that has one")
    _check_regular(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object; found {type(content).__name__}")
    return content


def _check_regular(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} is a folder, a pipe or a device, not a file; download the model again")


def _weights(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = _json(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) and "/" not in name for name in names.values()):
            raise UserError(f"{index} must name files beside it in weight_map; download the model again")
        files = [folder / name for name in sorted(set(names.values()))]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise UserError(f"{folder} lacks {missing[0]}, which {index.name} names; download the model again")
    else:
        files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(f"{folder} has no weights; *.safetensors or pytorch_model.bin is needed")
    for file in files:
        _check_regular(file)
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    return files


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(header_bytes))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            if 8 + header_bytes + max(ends) != size:
                raise ValueError(f"the header declares {8 + header_bytes + max(ends)} bytes, the file has {size}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}; download or save the model again") from error


def check_tokenizer(path: Path, vocabulary: int) -> None:
    """Raise UserError for a tokenizer.json that cannot be read, or that has more tokens than the model."""
    from tokenizers import Tokenizer

    _check_regular(path)
    try:
        largest = max(Tokenizer.from_file(str(path)).get_vocab().values())
    except Exception as error:  # the library raises plain exceptions
        raise UserError(f"{path} cannot be read: {error}") from error
    if largest >= vocabulary:
        raise UserError(
            f"the tokenizer does not fit the model: {path} has the id {largest}, "
            f"the model has a vocabulary of {vocabulary}"
        )
