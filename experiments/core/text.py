"""Between text and token ids, with the tokenizer that lies in the model's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from experiments.core.scoring import ScoreRequest


class Text:
    """Encodes without the tokenizer's own special tokens; the beginning-of-text id comes first where there is one."""

    def __init__(self, folder: Path, bos_id: int | None, max_length: int | None):
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos_id, self._max_length = bos_id, max_length

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

    def continuations(self, context: str, endings: Sequence[str]) -> tuple[list[ScoreRequest], bool]:
        """Return one request an ending, each tokenised in its context, and whether the context had to be cut.

        Where the tokenizer merges across the boundary, the first token that differs from the context alone counts to
        the ending. What exceeds the model's length is cut from the left, behind the beginning-of-text token.
        """
        alone = self.encode(context)
        encoded = [
            found.ids
            for found in self._tokenizer.encode_batch_fast(
                [context + ending for ending in endings], add_special_tokens=False
            )
        ]
        made = [self._request(alone, ids) for ids in encoded]
        return [request for request, _ in made], any(cut for _, cut in made)

    def _request(self, alone: list[int], ids: list[int]) -> tuple[ScoreRequest, bool]:
        shared = next((i for i, pair in enumerate(zip(alone, ids, strict=False)) if pair[0] != pair[1]), len(alone))
        shared = min(shared, len(ids) - 1)
        first = [] if self.bos_id is None else [self.bos_id]
        room = (self._max_length or len(ids) + 1) + 1 - len(first)  # the last token is scored but never run
        surplus = max(0, len(ids) - room)
        whole = (*first, *ids[surplus:])
        return ScoreRequest(whole, max(1, len(first) + shared - surplus)), surplus > 0
