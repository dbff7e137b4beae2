"""Finds prefixes that are worth computing once, such as few-shot examples, among sequences of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ids = tuple[int, ...]
_OVERHEAD = 256  # tokens that a shared prefix must save: it takes a forward pass and splits batches


@dataclass
class _Group:
    """Neighbouring sequences with `length` common tokens; `start` is the first one's index."""

    length: int
    start: int
    saved: int = 0  # by prefixes within the group
    prefixes: list[tuple[int, int, int]] = field(default_factory=list)  # (start, end, length)

    def add(self, inner: _Group) -> None:
        self.saved += inner.saved
        self.prefixes += inner.prefixes

    def close(self, end: int) -> None:
        """Share the group's own prefix if that saves more than the prefixes within it."""
        saved = (end - self.start - 1) * self.length - _OVERHEAD
        if saved > self.saved:
            self.saved, self.prefixes = saved, [(self.start, end, self.length)]


def shared_prefixes(sequences: Sequence[Ids]) -> list[int]:
    """Return for each sequence how many of its first tokens to compute once for all that begin with them.

    Each keeps at least one token of its own. Maximizes the saved tokens over all ways to give a sequence one prefix.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    arrays = [np.asarray(sequences[index]) for index in order]
    lengths = [0] * len(sequences)
    for start, end, length in _prefixes([_common(a, b) for a, b in pairwise(arrays)]):
        for index in order[start:end]:
            lengths[index] = length
    return lengths


def _prefixes(common: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the prefixes as (start, end, length); `common[i]`: common tokens of the sorted sequences i and i + 1.

    Groups with a common prefix form a tree, which one pass with a stack visits from the leaves to the root.
    """
    root = _Group(0, 0)
    stack = [root]
    for index, length in enumerate([*common, 0]):
        closed = None
        while stack[-1].length > length:
            closed = stack.pop()
            closed.close(index + 1)
            if stack[-1].length >= length:
                stack[-1].add(closed)
                closed = None
        if stack[-1].length < length:
            stack.append(_Group(length, index if closed is None else closed.start))
            if closed is not None:
                stack[-1].add(closed)
    return root.prefixes


def _common(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> int:
    """Return the number of common first tokens, less than either length."""
    size = min(len(first), len(second)) - 1
    differs = first[:size] != second[:size]
    at = int(differs.argmax()) if size > 0 else 0
    return at if size > 0 and differs[at] else max(size, 0)
