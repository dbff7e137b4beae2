"""The KV cache of llama.cpp: one sequence of its context per row. Rows that begin alike share memory, not copies."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Sequence

from runtime_matrix.runtimes.engines.llamacpp_context import Context
from runtime_matrix.runtimes.engines.rewind import check_rewind


class Sequences:
    """The sequence ids of a context. An id returns when the cache that took it is dropped."""

    def __init__(self, context: Context, count: int):
        self.context, self._count = context, count
        self._free = list(reversed(range(count)))
        self._dropped: deque[int] = deque()

    def take(self, count: int) -> list[int]:
        """Return the ids of empty sequences. Raises ValueError if too few are free."""
        self.reclaim()
        if count > len(self._free):
            raise ValueError(
                f"{count} sequences are needed, and {len(self._free)} of llama.cpp's {self._count} are free: "
                "use a smaller batch"
            )
        return [self._free.pop() for _ in range(count)]

    def drop(self, ids: Iterable[int]) -> None:
        """Note ids whose cache is gone. This may happen within a call of the library, so nothing is freed yet."""
        self._dropped.extend(ids)

    def reclaim(self) -> None:
        """Free the memory of dropped sequences."""
        while self._dropped:
            sequence = self._dropped.popleft()
            self.context.truncate(sequence)
            self._free.append(sequence)


class SequenceCache:
    """Implements `runtimes.base.Cache`. Row b is the sequence `ids[b]`, of which `row_lengths[b]` tokens are held.

    The first `shared_tokens` of each row belong to the prefix of a branch, into which rows cannot be rewound.
    """

    def __init__(self, sequences: Sequences, rows: int, shared_tokens: int = 0):
        self._sequences, self.shared_tokens = sequences, shared_tokens
        self.ids = sequences.take(rows)
        self.row_lengths = [0] * rows
        weakref.finalize(self, sequences.drop, tuple(self.ids)).atexit = False

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self.row_lengths)

    def select(self, rows: Sequence[int]) -> SequenceCache:
        """Return the given rows, in that order, over the same memory."""
        selected = SequenceCache(self._sequences, len(rows), self.shared_tokens)
        selected.replace(range(len(rows)), self, rows)
        return selected

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer, or below a shared prefix."""
        shared = self.shared_tokens
        check_rewind([length - shared for length in self.row_lengths], [length - shared for length in lengths])
        self.truncate(lengths)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` stored tokens of row b, unchecked."""
        for sequence, length in zip(self.ids, lengths, strict=True):
            self._sequences.context.truncate(sequence, length)
        self.row_lengths = list(lengths)

    def replace(self, rows: Sequence[int], source: SequenceCache, source_rows: Sequence[int] | None = None) -> None:
        """Replace row `rows[i]` by row i of another cache, or by its row `source_rows[i]`."""
        taken = range(len(source.ids)) if source_rows is None else source_rows
        context = self._sequences.context
        for row, other in zip(rows, taken, strict=True):
            context.truncate(self.ids[row])
            context.copy(source.ids[other], self.ids[row])
            self.row_lengths[row] = source.row_lengths[other]

    def advance(self, lengths: Sequence[int]) -> None:
        """Count the new tokens that the context has stored."""
        self.row_lengths = [old + new for old, new in zip(self.row_lengths, lengths, strict=True)]
