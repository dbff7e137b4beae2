"""A prompt prefix shared by many rows, computed once: read in place if the runtime can, otherwise copied per row.

Also counts the tokens that were run. Shapes: B rows, T tokens.
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
    """Counts of scoring: tokens requested, run, and run as padding."""

    asked_tokens: int = 0  # of all requests, each with its prefix
    run_tokens: int = 0
    padded_tokens: int = 0  # run tokens, padding included
    forwards: int = 0
    forward_rows: int = 0  # over all forwards, without padding
    prefixes: int = 0
    tied_positions: int = 0  # scored positions whose highest logit occurs more than once
    is_counted: bool = True  # False: the engine does not tell what it ran

    def add(self, ids_BT: torch.Tensor, lengths: Sequence[int], rows: int, packed: bool = False) -> None:
        """Count a forward pass; rows beyond the first `rows` are padding."""
        self.forwards += 1
        self.forward_rows += rows
        self.run_tokens += sum(lengths[:rows])
        self.padded_tokens += sum(lengths) if packed else ids_BT.numel()

    def figures(self) -> dict[str, float | None]:
        """Return the figures of the record. `asked_tokens` are requested tokens; ties are None without a forward."""
        counts = {
            "run_tokens": self.run_tokens,
            "forwards": self.forwards,
            "forward_rows": self.forward_rows,
            "shared_prefixes": self.prefixes,
        }
        return {
            "asked_tokens": self.asked_tokens,
            **{name: count if self.is_counted else None for name, count in counts.items()},
            "padding_ratio": 1 - self.run_tokens / self.padded_tokens if self.padded_tokens else None,
            "tied_positions": self.tied_positions if self.forwards else None,
        }


class PrefixCache:
    """The key-value cache of a prefix, which may be empty.

    `room` is how many tokens, padding included, a row may hold after the prefix.
    """

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
        """Return the number of prefix tokens that each row copies; 0 if rows share the prefix."""
        return 0 if self._shares else self._length

    def rows(self, count: int, room: int) -> Any:
        """Return a cache of `count` rows that start with the prefix. It invalidates the one returned before."""
        if self._cache is None:
            return self._runtime.new_cache(count, room)
        if self._shares:
            return self._runtime.branch(self._cache, count, room)
        if self._rows is not None and len(self._rows.lengths) == count:
            self._rows.rewind([self._length] * count)
        else:
            self._rows = self._cache.select([0] * count)
        return self._rows
