"""A prefix that many rows go on from, computed once: read in place where the runtime can, else copied for each row.

Also the count of what was run. Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runtime_matrix.experiments.evaluation.batching import pad
from runtime_matrix.runtimes.base import Runtime, Traits


@dataclass
class Tally:
    """What scoring took: the tokens that were asked, run, and run as padding."""

    asked_tokens: int = 0  # of all requests, each counted whole
    run_tokens: int = 0
    padded_tokens: int = 0  # run, padding included
    forwards: int = 0
    forward_rows: int = 0  # of all forwards, padding left out
    prefixes: int = 0
    tied_positions: int = 0  # of those that were scored: the highest logit is there more than once

    def add(self, ids_BT: torch.Tensor, lengths: Sequence[int], rows: int, packed: bool = False) -> None:
        """Count a forward; rows beyond `rows` are padding."""
        self.forwards += 1
        self.forward_rows += rows
        self.run_tokens += sum(lengths[:rows])
        self.padded_tokens += sum(lengths) if packed else ids_BT.numel()

    def figures(self) -> dict[str, float | None]:
        return {
            "asked_tokens": self.asked_tokens,
            "run_tokens": self.run_tokens,
            "padding_ratio": 1 - self.run_tokens / self.padded_tokens if self.padded_tokens else None,
            "forwards": self.forwards,
            "forward_rows": self.forward_rows,
            "shared_prefixes": self.prefixes,
            "tied_positions": self.tied_positions if self.forwards else None,
        }


class PrefixCache:
    """`room` is how many tokens, padding included, a row may hold behind the prefix. The prefix may be empty."""

    def __init__(self, runtime: Runtime, traits: Traits, prefix: Sequence[int], room: int, tally: Tally):
        self._runtime, self._shares, self._length = runtime, traits.shares_prefix, len(prefix)
        self._cache: Any = None
        self._rows: Any = None
        if not prefix:
            return
        ids_BT, lengths = pad([prefix], traits)
        tokens = ids_BT.shape[1]
        self._cache = runtime.new_cache(len(lengths), tokens if self._shares else max(tokens, len(prefix) + room))
        runtime.forward(ids_BT, lengths, self._cache)
        tally.add(ids_BT, lengths, 1)
        tally.prefixes += 1

    @property
    def copied_tokens(self) -> int:
        """Return how many tokens each row holds a copy of."""
        return 0 if self._shares else self._length

    def rows(self, count: int, room: int) -> Any:
        """Return a cache of `count` rows that hold the prefix. The one returned before is no longer valid."""
        if self._cache is None:
            return self._runtime.new_cache(count, room)
        if self._shares:
            return self._runtime.branch(self._cache, count, room)
        if self._rows is not None and len(self._rows.lengths) == count:
            self._rows.rewind([self._length] * count)
        else:
            self._rows = self._cache.select([0] * count)
        return self._rows
