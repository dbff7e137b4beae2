"""The vocabulary of a GGUF file: that of a byte-level tokenizer.json with rules llama.cpp has, else none.

Runtimes take token ids, so a file without a vocabulary runs as well; programs that take text need one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import ReadOnlyJson


def add(writer: Any, config: Any, folder: Path | None) -> None:
    """Add the tokenizer of `folder` to the writer, or declare that the file has none."""
    file = folder / "tokenizer.json" if folder is not None else None
    tokenizer = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}
    rules = splitting(tokenizer)
    if rules is None:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rules)
    _add_tokens(writer, tokenizer, config.vocab_size)
    writer.add_add_bos_token(_begins_with_special(tokenizer))
    _add_special(writer.add_bos_token_id, config.bos_token_id)
    _add_special(writer.add_eos_token_id, config.eos_token_id)


def splitting(tokenizer: ReadOnlyJson) -> str | None:
    """Return llama.cpp's name of the rules that split a text into words; None if they are not known to be the same."""
    if tokenizer.get("model", {}).get("type") != "BPE" or tokenizer.get("normalizer") is not None:
        return None
    splitter = tokenizer.get("pre_tokenizer") or {}
    is_gpt2 = splitter.get("type") == "ByteLevel" and splitter.get("use_regex", True)
    return "gpt-2" if is_gpt2 and not splitter.get("add_prefix_space") else None


def _add_tokens(writer: Any, tokenizer: ReadOnlyJson, size: int) -> None:
    from gguf import TokenType

    special = {token["id"]: token for token in tokenizer.get("added_tokens") or []}
    texts = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    texts |= {index: token["content"] for index, token in special.items()}

    def kind(index: int) -> int:
        if index not in texts:
            return int(TokenType.UNUSED)
        if index not in special:
            return int(TokenType.NORMAL)
        return int(TokenType.CONTROL if special[index].get("special") else TokenType.USER_DEFINED)

    writer.add_token_list([texts.get(index, f"[UNUSED{index}]") for index in range(size)])
    writer.add_token_types([kind(index) for index in range(size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])


def _begins_with_special(tokenizer: ReadOnlyJson) -> bool:
    """Return whether the tokenizer puts a special token before each text."""
    single = (tokenizer.get("post_processor") or {}).get("single") or []
    return bool(single) and "SpecialToken" in single[0]


def _add_special(add_id: Any, token_id: int | list[int] | None) -> None:
    first = token_id[0] if isinstance(token_id, list) else token_id
    if first is not None:
        add_id(first)
