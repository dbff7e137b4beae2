"""Converts between text and token ids with the tokenizer in the model's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from runtime_matrix.experiments.evaluation.requests import Continuations, ScoreRequest

_PREFIXES_KEPT = 1000  # some kilobytes each


class Text:
    """The tokenizer of a model. Prompts and contexts start with the beginning-of-text id if the model has one."""

    def __init__(self, folder: Path, bos_id: int | None, max_length: int | None):
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos_id, self._max_length = bos_id, max_length
        self._prefixes: dict[str, tuple[int, ...]] = {}
        highest = max([self._tokenizer.get_vocab_size() - 1, bos_id or 0])
        self._numbers = list(range(highest + 1))

    def encode(self, text: str) -> list[int]:
        """Return the ids without special tokens, beginning-of-text included."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids as `encode` does, and the characters (start, end) of the text that each stands for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    @property
    def max_length(self) -> int | None:
        """Return the most tokens that the model takes; None if it states no limit."""
        return self._max_length

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def shown(self, token: int) -> str:
        """Return one token as text, special tokens too; a part of a character is shown as a replacement character."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def piecewise(self, ids: Sequence[int]) -> Callable[[int], str]:
        """Return a function that returns the text added by each further token after `ids`.

        A token that ends within a character adds nothing until the character is complete.
        """
        stream = DecodeStream(ids=list(ids), skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def prompt(self, text: str, new_tokens: int) -> tuple[tuple[int, ...], bool]:
        """Return the ids of a prompt that leaves room for new tokens, and whether it was truncated on the left."""
        first = () if self.bos_id is None else (self.bos_id,)
        ids = self.encode(text)
        room = len(ids) if self._max_length is None else max(1, self._max_length - new_tokens - len(first))
        surplus = max(0, len(ids) - room)
        return (*first, *ids[surplus:]), surplus > 0

    def continuations(self, contexts: Sequence[Continuations]) -> list[tuple[list[ScoreRequest], bool]]:
        """Return per context one request per ending, tokenised in its context, and whether the context was truncated.

        The prefix is encoded once. It is shared only if encoding prefix and stem together gives the same tokens, since
        BPE may merge across the boundary. If the tokenizer merges stem and ending, the ending starts at the first
        token that differs from the stem alone. Contexts beyond the model's length are truncated on the left, after the
        beginning-of-text token; a prefix that this would change is not shared.
        """
        texts = [text for context in contexts for text in context.texts()]
        encoded = iter(self._encode_all(texts))
        results = []
        for context in contexts:
            whole, stem = next(encoded), next(encoded)
            ended = [next(encoded) for _ in context.endings]
            prefix = self._prefix_ids(context.prefix)
            if self._can_share(prefix, whole, stem, ended):
                cuts = [min(_same(stem, ids), len(ids) - 1) for ids in ended]
                requests = [ScoreRequest(self._tokens(ids), cut, prefix) for ids, cut in zip(ended, cuts, strict=True)]
                results.append((requests, False))
            else:
                results.append(self._whole(whole, [context.context + ending for ending in context.endings]))
        return results

    def _can_share(self, prefix: tuple[int, ...], whole: list[int], stem: list[int], ended: list[list[int]]) -> bool:
        longest = len(prefix) + max(map(len, ended), default=0) - 1  # the last token is scored but never run
        first = 0 if self.bos_id is None else 1
        return (
            len(prefix) > 0
            and whole == [*prefix[first:], *stem]
            and all(len(ids) > 1 and ids[0] == stem[0] for ids in ended)
            and longest <= (self._max_length or longest)
        )

    def _encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _prefix_ids(self, prefix: str) -> tuple[int, ...]:
        """Return the same tuple object for the same prefix, so that memory holds it once."""
        if prefix not in self._prefixes:
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.clear()
            first = () if self.bos_id is None else (self.bos_id,)
            self._prefixes[prefix] = self._tokens([*first, *self.encode(prefix)]) if prefix else ()
        return self._prefixes[prefix]

    def _whole(self, context: list[int], texts: Sequence[str]) -> tuple[list[ScoreRequest], bool]:
        """Return requests without a shared prefix, and whether any was truncated."""
        pairs = [self._request(context, ids) for ids in self._encode_all(texts)]
        return [request for request, _ in pairs], any(was_cut for _, was_cut in pairs)

    def _request(self, context: list[int], ids: list[int]) -> tuple[ScoreRequest, bool]:
        first = [] if self.bos_id is None else [self.bos_id]
        room = (self._max_length or len(ids) + 1) + 1 - len(first)  # the last token is scored but never run
        surplus = max(0, len(ids) - room)
        shared = len(first) + min(_same(context, ids), len(ids) - 1) - surplus
        return ScoreRequest(self._tokens([*first, *ids[surplus:]]), max(1, shared)), surplus > 0

    def _tokens(self, ids: list[int]) -> tuple[int, ...]:
        """Return the ids as shared int objects: a new int takes four times the memory of a reference to one."""
        return tuple(map(self._numbers.__getitem__, ids))


def _same(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two token sequences."""
    if second[: len(first)] == first:
        return len(first)
    return next(i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
