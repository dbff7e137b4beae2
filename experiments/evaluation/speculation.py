"""Speculative decoding: proposes next tokens by prompt lookup or with a draft model.

A wrong guess costs time and never changes a text: the loop keeps only tokens that the runtime would have chosen
(Leviathan et al. 2023, arXiv 2211.17192, the greedy case). Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from runtime_matrix.experiments.evaluation.finite import check_numbers, read_highest
from runtime_matrix.experiments.evaluation.prefill import prefill, prefill_room
from runtime_matrix.runtimes.base import Runtime, Traits

_LONGEST, _SHORTEST = 3, 2  # lengths of the n-grams looked up; a single token predicts too little


class History:
    """The tokens of a text so far, with an index of its n-grams."""

    def __init__(self, ids: Sequence[int]):
        self.ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token and index the n-grams before it."""
        for length in range(_SHORTEST, _LONGEST + 1):
            if len(self.ids) >= length:
                self._behind[tuple(self.ids[-length:])] = len(self.ids)
        self.ids.append(token)

    def continuation(self, most: int) -> list[int]:
        """Return up to `most` tokens after the latest earlier occurrence of the last tokens; empty if there is none."""
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            start = self._behind.get(tuple(self.ids[-length:])) if len(self.ids) >= length else None
            if start is not None:
                return self.ids[start : start + most]
        return []


class Drafter(Protocol):
    """Proposes tokens for the rows of a batch."""

    tokens: int  # the most tokens per guess

    def propose(self, rows: Sequence[History | None]) -> list[list[int]]:
        """Return one guess per row, which may be empty; a row of None is unused."""
        ...


class Lookup:
    """Prompt lookup (Saxena 2023): summaries and code repeat earlier text."""

    def __init__(self, tokens: int):
        self.tokens = tokens

    def propose(self, rows: Sequence[History | None]) -> list[list[int]]:
        """Return the continuation that each row's history suggests."""
        return [row.continuation(self.tokens) if row is not None else [] for row in rows]


class DraftModel:
    """A smaller model with the same vocabulary. Its cache follows the rows of the batch."""

    def __init__(self, runtime: Runtime, traits: Traits, tokens: int, prefill_chunk: int | None = None):
        self.tokens, self._chunk = tokens, prefill_chunk
        self._runtime, self._traits = runtime, traits
        self._rows: list[History | None] = []
        self._cache: Any = None
        self._capacity = 0

    def propose(self, rows: Sequence[History | None]) -> list[list[int]]:
        """Return `tokens` greedy tokens per row; FloatingPointError for logits that are not finite."""
        self._follow(rows)
        cached = [
            min(length, len(row.ids) - 1) if row else 0 for length, row in zip(self._cache.lengths, rows, strict=True)
        ]
        self._cache.rewind(cached)
        # One token follows the cached ones, or two if the last guess was accepted completely.
        pending = [row.ids[length:] if row else [0] for row, length in zip(rows, cached, strict=True)]
        guesses: list[list[int]] = [[] for _ in rows]
        for _ in range(self.tokens):
            ids_BT = torch.zeros(len(rows), max(map(len, pending)), dtype=torch.long)
            for at, tokens in enumerate(pending):
                ids_BT[at, : len(tokens)] = torch.tensor(tokens)
            logits_BV = self._runtime.forward(ids_BT, [len(tokens) for tokens in pending], self._cache).logits_BKV[:, 0]
            highest, predicted = read_highest(logits_BV)
            check_numbers([highest[at] for at, row in enumerate(rows) if row is not None], "a guess of the draft model")
            pending = [[token] for token in predicted]
            for guess, (token,) in zip(guesses, pending, strict=True):
                guess.append(token)
        return [guess if row is not None else [] for guess, row in zip(guesses, rows, strict=True)]

    def _follow(self, rows: Sequence[History | None]) -> None:
        """Reorder the cache's rows to match the histories, and prefill new ones."""
        needed = max(len(row.ids) for row in rows if row is not None) + self.tokens + 2
        places = {id(row): at for at, row in enumerate(self._rows) if row is not None}
        fresh = [at for at, row in enumerate(rows) if row is not None and id(row) not in places]
        if needed > self._capacity:
            self._capacity, self._cache = 2 * needed, None
            fresh = [at for at, row in enumerate(rows) if row is not None]
        if self._cache is None:
            self._cache = self._runtime.new_cache(len(rows), self._capacity)
        elif [id(row) for row in rows] != [id(row) for row in self._rows]:
            self._cache = self._cache.select([places.get(id(row), 0) for row in rows])
        if fresh:
            self._cache.replace(fresh, self._prefilled([rows[at] for at in fresh]))
        self._rows = list(rows)

    def _prefilled(self, rows: Sequence[History | None]) -> Any:
        ids = [row.ids[:-1] or row.ids for row in rows if row is not None]
        used = prefill_room(max(map(len, ids)), self._traits, self._chunk)
        _, cache = prefill(self._runtime, self._traits, ids, max(0, self._capacity - used), self._chunk)
        return cache.select(range(len(rows)))
