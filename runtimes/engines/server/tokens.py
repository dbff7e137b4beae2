"""The tokens of the served model, as the files of the model have them, and whether the server's are the same."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import ModelSource, ReadOnlyJson, Unsupported
from runtime_matrix.runtimes.engines.server.messages import COMPLETIONS, MALFORMED, usage
from runtime_matrix.runtimes.http_calls import CallFailed, Connection

TEXTS = ("Once upon a time there was a small town by a river.", "def add(a, b):\n    return a + b")
_FIRST_ID = 8  # lower ids are often special tokens


class NoText(CallFailed):
    """No text has the ids of a prompt, which the server takes as text alone."""


@dataclass(frozen=True)
class Tokens:
    """What the files of a model say of its tokens."""

    vocabulary: int
    max_length: int | None  # tokens per sequence; None: the model states no limit
    eos_ids: frozenset[int]  # that end a text; empty: unknown
    tokenizer: Any  # of the package `tokenizers`; None: the model has none

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens included."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the text whose ids these are, without the special tokens that servers add; NoText if none is."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        if self.encode(decoded) != list(ids):
            raise NoText("the prompt's ids are not those of its text, and it must be sent as text")
        return decoded

    def drawn(self, prompts: int, length: int) -> list[list[int]]:
        """Return prompts of seeded random ids."""
        source, first = random.Random(length), min(_FIRST_ID, self.vocabulary - 1)
        return [[source.randrange(first, self.vocabulary) for _ in range(length)] for _ in range(prompts)]


def stated_length(model: ModelSource) -> int | None:
    """Return the tokens per sequence that the files of a model state; None if they state no limit."""
    length: int | None = _configuration(model).get("max_position_embeddings")
    return length


def read_tokens(model: ModelSource) -> Tokens:
    """Read the files of a model. Raises Unsupported if it has no configuration."""
    configuration = _configuration(model)
    generation = None if model.folder is None else _json(model.folder / "generation_config.json")
    file = None if model.folder is None else model.folder / "tokenizer.json"
    return Tokens(
        vocabulary=int(configuration["vocab_size"]),
        max_length=configuration.get("max_position_embeddings"),
        eos_ids=_ids(configuration.get("eos_token_id")) | _ids((generation or {}).get("eos_token_id")),
        tokenizer=_tokenizer(file) if file is not None and file.is_file() else None,
    )


async def check_tokenizer(connection: Connection, model: str, tokens: Tokens) -> None:
    """Raise Unsupported if the server's tokens of two texts differ from the model's.

    Servers with `/tokenize` tell the ids; of the others the number of tokens is compared.
    """
    for text in TEXTS:
        ours, theirs = tokens.encode(text), await _tokens(connection, model, text)
        count = len(theirs) if isinstance(theirs, list) else theirs
        if count is None or theirs == ours:
            continue
        if isinstance(theirs, list) or count != len(ours):
            raise Unsupported(
                f"the server's tokenizer differs from the model's: {text[:24]!r} is {count} tokens there and "
                f"{len(ours)} here{', with other ids' if count == len(ours) else ''}; "
                "set model.path to the folder of the model that is served"
            )


async def _tokens(connection: Connection, model: str, text: str) -> list[int] | int | None:
    """Return the ids of a text, or their number; None if the server tells neither."""
    body = {"model": model, "prompt": text, "content": text, "add_special": True, "add_special_tokens": True}
    try:
        tokens = (await connection.post("/tokenize", body, tries=1))["tokens"]
        if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens):
            return tokens
    except (CallFailed, *MALFORMED):
        pass
    body = {"model": model, "prompt": text, "max_tokens": 1}
    try:
        counts = usage(await connection.post(COMPLETIONS, body, tries=1))
    except CallFailed:
        return None
    return counts.prompt_tokens if counts is not None else None


def _configuration(model: ModelSource) -> ReadOnlyJson:
    if model.architecture is not None:
        return model.architecture
    assert model.folder is not None
    configuration = _json(model.folder / "config.json")
    if configuration is None:
        raise Unsupported(f"{model.folder} has no config.json: set model.path to the folder of the served model")
    return configuration


def _json(file: Path) -> ReadOnlyJson | None:
    if not file.is_file():
        return None
    content: ReadOnlyJson = json.loads(file.read_text(encoding="utf-8"))
    return content


def _ids(value: Any) -> frozenset[int]:
    return frozenset([value] if isinstance(value, int) else value or ())


def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))
