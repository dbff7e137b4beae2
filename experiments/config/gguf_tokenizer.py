"""Choose the tokenizer of a GGUF file: its own, which `transformers` converts, or that of a folder.

A converted tokenizer is used only where its rules are known to be llama.cpp's.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.digests import content_digests
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import check_tokenizer
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.gguf_header import GgufHeader

_FORM = 1  # version of the converted files in the artifact key; increase it when they change
_FILE, _OPTIONS = "tokenizer.json", "tokenizer_config.json"
_GPT2_RULES = ("gpt-2", "phi-2", "mpt", "olmo", "jais")  # llama.cpp's names of the rules that split words as GPT-2 does
_SPACE = "\u2581"
# Words, numbers, runs of spaces, line ends, code and letters outside ASCII, where tokenizers differ.
_PROBES = (
    'Once upon a time, there was a little girl named Lily. She said: "Don\'t go!"',
    " 1234567 and 3.14,  two  spaces\n\n\tdef f(x):\n        return x[0] != {'a': 1}\r\n",
    "Größe, élève, Привет, 你好, مرحبا, e\u0301 \U0001f642 I'LL WE'RE",
)


@dataclass(frozen=True)
class Choice:
    """The folder that holds tokenizer.json, or the reason why there is none; `digest` is that of a user's file."""

    folder: Path | None
    problem: str | None = None
    digest: str | None = None


class _UnknownRulesError(Exception):
    """The file's tokenizer cannot be converted; one line."""


def choose(
    file: Path,
    header: GgufHeader,
    content: str,
    vocabulary: int,
    root: Path,
    given: Path | None,
    reference: Path | None,
) -> Choice:
    """Return the tokenizer: that of the folder `given`, else the file's own, else that of the folder `reference`.

    `content` is the file's digest, and `root` the folder of artifacts. UserError if two of them differ.
    """
    own, problem = _own(file, header, content, root)
    others = {"model.tokenizer": given, "model.reference": reference}
    folders = {name: folder for name, folder in others.items() if folder is not None}
    for name, folder in folders.items():
        _check_folder(name, folder, vocabulary, is_needed=name == "model.tokenizer")
    holding = {name: folder for name, folder in folders.items() if (folder / _FILE).is_file()}
    if own is not None:
        holding = {"model.path": own, **holding}
    _check_alike(holding)
    chosen = next((name for name in ("model.tokenizer", "model.path", "model.reference") if name in holding), None)
    if chosen is None:
        return Choice(None, f"the tokenizer of {file.name} cannot be used: {problem}; pass model.tokenizer=DIR")
    digest = None if chosen == "model.path" else content_digests([holding[chosen] / _FILE], root)[0]
    return Choice(holding[chosen], None, digest)


def _own(file: Path, header: GgufHeader, content: str, root: Path) -> tuple[Path | None, str | None]:
    """Return the folder of the converted tokenizer, or None and the reason."""
    made_from = {"file": content, "form": _FORM, "transformers": importlib.metadata.version("transformers")}
    try:
        _check_rules(header)
        return artifacts.entry(root, "gguf_tokenizer", made_from, lambda folder: _convert(file, header, folder)), None
    except _UnknownRulesError as error:
        return None, str(error)


def _check_rules(header: GgufHeader) -> None:
    """Raise _UnknownRulesError if `transformers` would split words by other rules than llama.cpp."""
    kind, rules = (header.values.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind == "gpt2" and rules not in (*_GPT2_RULES, *_known_rules()):
        raise _UnknownRulesError(f"its rules for splitting words, {rules}, are unknown here")
    if kind in (None, "none", "no_vocab"):
        raise _UnknownRulesError("it has none")


def _known_rules() -> tuple[str, ...]:
    """Return llama.cpp's names of the rules that `transformers` knows besides GPT-2's; older versions know none."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        return ()
    return tuple(GGUF_PRE_TOKENIZER_SPLITS)


def _convert(file: Path, header: GgufHeader, folder: Path) -> None:
    """Write the tokenizer in the layout of Hugging Face. Raises _UnknownRulesError if `transformers` cannot read it."""
    from transformers import AutoTokenizer

    try:
        with tempfile.TemporaryDirectory() as empty:  # other files beside the GGUF file would be read too
            AutoTokenizer.from_pretrained(empty, gguf_file=str(file.resolve())).save_pretrained(folder)
    except Exception as error:  # the library raises unrelated classes, for each part that it does not know
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _UnknownRulesError(first[:200]) from error
    tokens = header.lengths.get("tokenizer.ggml.tokens", 0)
    _rewrite(folder / _FILE, lambda content: _corrected(content, header, tokens))
    texts = {token["content"] for token in json.loads((folder / _FILE).read_text(encoding="utf-8"))["added_tokens"]}
    vocabulary = json.loads((folder / _FILE).read_text(encoding="utf-8"))["model"]["vocab"]
    _rewrite(folder / _OPTIONS, lambda content: _without_strangers(content, texts | set(_texts(vocabulary))))


def _texts(vocabulary: Any) -> list[str]:
    """Return the tokens of a model of tokenizers, whose vocabulary is a mapping or a list of pairs."""
    return list(vocabulary) if isinstance(vocabulary, dict) else [token for token, _ in vocabulary]


def _rewrite(path: Path, change: Callable[[JsonObject], JsonObject]) -> None:
    if path.is_file():
        path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def _corrected(content: JsonObject, header: GgufHeader, tokens: int) -> JsonObject:
    """Return tokenizer.json without tokens that the file lacks, and with llama.cpp's rule for the first space.

    `transformers` adds default special tokens, with ids beyond the vocabulary. Of sentencepiece tokenizers, it spares
    the first space where the text begins with one, and llama.cpp always adds it or never does.
    """
    content = {**content, "added_tokens": [token for token in content["added_tokens"] if token["id"] < tokens]}
    if (content.get("pre_tokenizer") or {}).get("type") != "Metaspace":
        return content
    adds_space = header.values.get("tokenizer.ggml.add_space_prefix", True) is True
    steps: list[JsonObject] = [{"type": "Prepend", "prepend": _SPACE}] if adds_space else []
    steps += [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    content |= {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    return content if adds_space else {**content, "decoder": _keeping_spaces(content["decoder"])}


def _keeping_spaces(decoder: JsonObject) -> JsonObject:
    """Return a decoder that does not remove the first space."""
    return {**decoder, "decoders": [step for step in decoder.get("decoders", []) if step["type"] != "Strip"]}


def _without_strangers(content: JsonObject, texts: set[str]) -> JsonObject:
    """Return tokenizer_config.json without special tokens that the file lacks, which would be added on loading."""
    return {
        key: value
        for key, value in content.items()
        if not (key.endswith("_token") and isinstance(value, str) and value not in texts)
        and key not in ("gguf_file", "name_or_path")
    }


def _check_folder(name: str, folder: Path, vocabulary: int, is_needed: bool) -> None:
    if not (folder / _FILE).is_file():
        if is_needed:
            raise UserError(f"{name}={folder} has no {_FILE}: give the folder that has one")
        return
    check_tokenizer(folder / _FILE, vocabulary)


def _check_alike(folders: dict[str, Path]) -> None:
    """Raise UserError if two tokenizers give different ids for a probe text."""
    from tokenizers import Tokenizer

    (first, *others) = folders.items() if folders else [("", Path())]
    for name, folder in others:
        pair = [Tokenizer.from_file(str(path / _FILE)) for path in (first[1], folder)]
        for probe in _PROBES:
            ids = [tokenizer.encode(probe, add_special_tokens=False).ids for tokenizer in pair]
            if ids[0] != ids[1]:
                place = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
                raise UserError(
                    f"the tokenizers of {first[0]} and {name}={folder} differ: for {probe[:40]!r} they give "
                    f"{ids[0][place : place + 3]} and {ids[1][place : place + 3]} at token {place}; use the "
                    "tokenizer of the model that the file was converted from"
                )
