"""Between text and token ids, with the tokenizer that lies in the model's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from runtime_matrix.experiments.evaluation.requests import Continuations, ScoreRequest

_PREFIXES_KEPT = 1000  # of which each is some kilobytes


class Text:
    """Encodes without the tokenizer's own special tokens; the beginning-of-text id comes first where there is one."""

    def __init__(self, folder: Path, bos_id: int | None, max_length: int | None):
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos_id, self._max_length = bos_id, max_length
        self._prefixes: dict[str, tuple[int, ...]] = {}
        highest = max([self._tokenizer.get_vocab_size() - 1, bos_id or 0])
        self._numbers = list(range(highest + 1))

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def piecewise(self, ids: Sequence[int]) -> Callable[[int], str]:
        """Begin a text behind the given ids: the function returns what each further token adds to it.

        A token that ends within a character adds nothing until the character is whole.
        """
        stream = DecodeStream(ids=list(ids), skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def prompt(self, text: str, new_tokens: int) -> tuple[tuple[int, ...], bool]:
        """Return the ids of a prompt that leaves room for new tokens, and whether it had to be cut from the left."""
        first = () if self.bos_id is None else (self.bos_id,)
        ids = self.encode(text)
        room = len(ids) if self._max_length is None else max(1, self._max_length - new_tokens - len(first))
        surplus = max(0, len(ids) - room)
        return (*first, *ids[surplus:]), surplus > 0

    def continuations(self, asked: Sequence[Continuations]) -> list[tuple[list[ScoreRequest], bool]]:
        """Return for each one request an ending, tokenised in its context, and whether the context had to be cut.

        The prefix is encoded once, and stays apart where encoding it with the stem as a whole gives the same tokens:
        BPE may merge across the cut. Where the tokenizer merges stem and ending, the first token that differs from the
        stem alone counts to the ending. What exceeds the model's length is cut from the left, behind the
        beginning-of-text token; a prefix that this would change is not shared.
        """
        texts = [text for one in asked for text in one.texts()]
        encoded = iter(self._encode_all(texts))
        made = []
        for one in asked:
            whole, stem = next(encoded), next(encoded)
            ended = [next(encoded) for _ in one.endings]
            prefix = self._prefix_ids(one.prefix)
            if self._can_share(prefix, whole, stem, ended):
                cuts = [min(_same(stem, ids), len(ids) - 1) for ids in ended]
                requests = [ScoreRequest(self._tokens(ids), cut, prefix) for ids, cut in zip(ended, cuts, strict=True)]
                made.append((requests, False))
            else:
                made.append(self._whole(whole, [one.prefix + one.stem + ending for ending in one.endings]))
        return made

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
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _prefix_ids(self, prefix: str) -> tuple[int, ...]:
        """Return the same tuple for the same prefix, so that it is held once."""
        if prefix not in self._prefixes:
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.clear()
            first = () if self.bos_id is None else (self.bos_id,)
            self._prefixes[prefix] = self._tokens([*first, *self.encode(prefix)]) if prefix else ()
        return self._prefixes[prefix]

    def _whole(self, alone: list[int], texts: Sequence[str]) -> tuple[list[ScoreRequest], bool]:
        """Return the requests without a prefix that could be shared."""
        made = [self._request(alone, ids) for ids in self._encode_all(texts)]
        return [request for request, _ in made], any(cut for _, cut in made)

    def _request(self, alone: list[int], ids: list[int]) -> tuple[ScoreRequest, bool]:
        first = [] if self.bos_id is None else [self.bos_id]
        room = (self._max_length or len(ids) + 1) + 1 - len(first)  # the last token is scored but never run
        surplus = max(0, len(ids) - room)
        shared = len(first) + min(_same(alone, ids), len(ids) - 1) - surplus
        return ScoreRequest(self._tokens([*first, *ids[surplus:]]), max(1, shared)), surplus > 0

    def _tokens(self, ids: list[int]) -> tuple[int, ...]:
        """Return the ids as numbers of which each is held once: a new one takes four times what points to it."""
        return tuple(map(self._numbers.__getitem__, ids))


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens the two have in common at their beginning."""
    if other[: len(one)] == one:
        return len(one)
    return next(i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
