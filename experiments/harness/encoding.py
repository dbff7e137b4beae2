"""Tokenises requests of lm-evaluation-harness as its `hf` backend does, in few calls of the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Pair = tuple[str, str]  # context and continuation
Ids = list[int]

_INNER_SPACE = re.compile(r"(?<=\w) (?=\w)")


class HarnessTokenizer:
    """A model's tokenizer. `add_bos_token` None: special tokens as the tokenizer adds them by default.

    `prefix_token_id` replaces the token that stands for an empty context.
    """

    def __init__(self, folder: Path, add_bos_token: bool | None = None, prefix_token_id: int | None = None):
        from transformers import AutoTokenizer

        options = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
        self.inner: Any = AutoTokenizer.from_pretrained(str(folder), **options)
        self._add_bos_token, self._prefix_token_id = add_bos_token, prefix_token_id
        self._backend = self.inner.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    @property
    def prefix_token_id(self) -> int:
        """Return the context of a text without one: the beginning-of-text token, else the end-of-text token."""
        if self._prefix_token_id is not None:
            return self._prefix_token_id
        bos, eos = self.inner.bos_token_id, self.inner.eos_token_id
        return int(eos if bos is None else bos)

    def encode_all(self, texts: Sequence[str], special_tokens: bool | None = None) -> list[Ids]:
        """Return the ids of each text. `special_tokens` None: as by default, unless the text begins with them."""
        prefix = self.inner.decode(self.prefix_token_id)
        default = True if self._add_bos_token is None else self._add_bos_token

        def adds(text: str) -> bool:
            return special_tokens if special_tokens is not None else default and not text.startswith(prefix)

        flags, encoded = [adds(text) for text in texts], [Ids()] * len(texts)
        for flag in set(flags):
            chosen = [index for index, other in enumerate(flags) if other == flag]
            batch = self._backend.encode_batch_fast([texts[index] for index in chosen], add_special_tokens=flag)
            for index, encoding in zip(chosen, batch, strict=True):
                encoded[index] = encoding.ids
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated tokens, without special ones."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True))

    def special_id(self, text: str) -> int | None:
        """Return the id of a text that is one special token; None for other texts."""
        token = self.inner.convert_tokens_to_ids(text)
        return token if token in self.inner.all_special_ids and token != self.inner.unk_token_id else None

    def encode_pairs(self, pairs: Sequence[Pair]) -> list[tuple[Ids, Ids]]:
        """Return the ids of each context and of its continuation, tokenised in its context."""
        moved = [_move_spaces(*pair) for pair in pairs]
        results = dict(zip(range(len(moved)), [(Ids(), Ids())] * len(moved), strict=True))
        lone = [index for index, (context, _) in enumerate(moved) if not context]
        for index, ids in zip(lone, self.encode_all([moved[index][1] for index in lone], False), strict=True):
            results[index] = _after_prefix(self.prefix_token_id, ids)
        within = [index for index, (context, _) in enumerate(moved) if context]
        encoded = _encode_within(self.encode_all, [moved[index] for index in within])
        results.update(zip(within, encoded, strict=True))
        return [results[index] for index in range(len(moved))]


def _move_spaces(context: str, continuation: str) -> Pair:
    """Move spaces at the end of the context to the continuation, where most tokenizers have them."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _after_prefix(prefix: int, ids: Ids) -> tuple[Ids, Ids]:
    return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)


def _encode_within(encode: Callable[..., list[Ids]], pairs: Sequence[Pair]) -> list[tuple[Ids, Ids]]:
    """Encode continuations in their contexts.

    Each context is encoded once, however many continuations it has. Only its end is encoded again with each
    continuation, if that end alone gives the same tokens as within the context.
    """
    contexts = list(dict.fromkeys(context for context, _ in pairs))
    whole = dict(zip(contexts, encode(contexts), strict=True))
    ends = [_end(context) for context in contexts]
    encoded_ends = dict(zip(contexts, zip(ends, encode(ends, False), strict=True), strict=True))
    tails = encode([encoded_ends[context][0] + continuation for context, continuation in pairs], False)
    results: list[tuple[Ids, Ids]] = []
    unclear: list[int] = []
    for index, ((context, _), tail) in enumerate(zip(pairs, tails, strict=True)):
        end = encoded_ends[context][1]
        if not end or whole[context][-len(end) :] != end or tail[:1] != end[:1]:
            unclear.append(index)
        results.append((whole[context], tail[len(end) :]))
    for index, ids in zip(unclear, encode(["".join(pairs[index]) for index in unclear]), strict=True):
        context_ids = whole[pairs[index][0]]
        results[index] = (context_ids, ids[len(context_ids) :])
    return results


def _end(context: str) -> str:
    """Return the last words of a context: from a space between two words, where tokenizers split."""
    spaces = list(_INNER_SPACE.finditer(context, max(0, len(context) - 200)))
    return context[spaces[-1].start() :] if spaces else context
