"""Decoding without a key-value cache: every step runs the whole row again. For `generation.kv_cache=false`.

Shapes: B rows, T tokens, K positions whose logits are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from runtime_matrix.experiments.evaluation.batching import pad
from runtime_matrix.runtimes.base import LOGITS, Outputs, Runtime, Traits


class TokenCache:
    """Implements the cache protocol of `runtimes/base.py`, but stores tokens instead of keys and values."""

    def __init__(self, rows: list[list[int]]):
        self.rows = rows

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens per row."""
        return [len(row) for row in self.rows]

    def select(self, rows: Sequence[int]) -> TokenCache:
        """Return a cache with copies of these rows, which may repeat."""
        return TokenCache([list(self.rows[row]) for row in rows])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b."""
        for row, length in zip(self.rows, lengths, strict=True):
            del row[length:]

    def replace(self, rows: Sequence[int], source: TokenCache) -> None:
        """Copy row i of `source` to row `rows[i]`."""
        for row, tokens in zip(rows, source.rows, strict=True):
            self.rows[row] = list(tokens)


class Recomputing:
    """Wraps a loaded runtime; implements only what the decoding loop uses."""

    def __init__(self, inner: Runtime, traits: Traits):
        self._inner, self._traits = inner, traits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def new_cache(self, rows: int, capacity: int) -> TokenCache:
        """Return an empty cache; `capacity` does not limit it."""
        return TokenCache([[] for _ in range(rows)])

    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: TokenCache,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        """Append the new tokens to the cache and run all rows from their first token."""
        before = torch.tensor(cache.lengths)[:, None]
        for row, new, length in zip(cache.rows, ids_BT.tolist(), lengths, strict=True):
            row += new[:length]
        whole_BT, _ = pad(cache.rows, self._traits)
        at_BK = torch.tensor(lengths)[:, None] - 1 if at_BK is None else at_BK.cpu()
        wanted_BK = (before + at_BK).clamp(max=whole_BT.shape[1] - 1)
        return self._inner.forward(whole_BT, cache.lengths, None, wanted_BK, outputs=outputs, contexts=contexts)
