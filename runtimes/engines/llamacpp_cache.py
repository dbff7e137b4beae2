"""The KV caches of llama.cpp: rows with memory of their own, and the rows of a branch, which share a prefix."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

from runtime_matrix.runtimes.engines import llamacpp_library
from runtime_matrix.runtimes.engines.llamacpp_context import Context, Size
from runtime_matrix.runtimes.engines.llamacpp_model import Model
from runtime_matrix.runtimes.engines.rewind import check_rewind

_CELLS = 256  # the library rounds the tokens of a sequence up to a multiple
_IDLE = 2  # contexts of dropped caches that are kept for the next ones
_FIRST_TOKENS = 512  # of shared memory that grows


class Memory:
    """All contexts over a model: one per cache of separate rows, and one that branches share.

    A cache may be dropped within a call of the library, so that its memory is only noted then and freed later.
    """

    def __init__(self, model: Model, sequences: int, shared_tokens: int | None):
        self._model, self._sequences, self._shared_tokens = model, sequences, shared_tokens
        self._shared: Context | None = None
        self._free: list[int] = []  # sequences of the shared context
        self._used: list[Context] = []
        self._idle: list[Context] = []  # the last one was used last
        self._dropped: deque[tuple[Context, tuple[int, ...]]] = deque()

    @property
    def growths(self) -> int:
        """Return how often the shared memory was doubled."""
        return self._shared.growths if self._shared else 0

    def separate(self, rows: int, tokens: int) -> Context:
        """Return a context with an empty sequence for each row. Raises ValueError for more rows than it can have."""
        if rows > llamacpp_library.MOST_SEQUENCES:
            raise ValueError(
                f"a batch of {rows} rows is larger than llama.cpp's {llamacpp_library.MOST_SEQUENCES} sequences: use a "
                "smaller batch"
            )
        self.reclaim()
        fitting = [context for context in self._idle if context.size.fits(rows, tokens)]
        if fitting:
            context = min(fitting, key=lambda context: context.size.sequences * context.size.tokens)
            self._idle.remove(context)
        else:
            context = Context(self._model, Size(separate_rows(rows), separate_tokens(tokens)))
        self._used.append(context)
        return context

    def shared(self, rows: int) -> tuple[Context, list[int]]:
        """Return the shared context and empty sequences of it. Raises ValueError if too few are free."""
        self.reclaim()
        if self._shared is None:
            tokens = self._shared_tokens
            size = Size(self._sequences, tokens or _FIRST_TOKENS, is_shared=True, grows=tokens is None)
            self._shared, self._free = Context(self._model, size), list(reversed(range(self._sequences)))
        if rows > len(self._free):
            raise ValueError(
                f"{rows} sequences are needed, and {len(self._free)} of llama.cpp's {self._sequences} are free: "
                "use a smaller batch"
            )
        return self._shared, [self._free.pop() for _ in range(rows)]

    def drop(self, context: Context, ids: tuple[int, ...]) -> None:
        """Note that the cache of these sequences is gone."""
        self._dropped.append((context, ids))

    def reclaim(self) -> None:
        """Free the memory of dropped caches."""
        while self._dropped:
            context, ids = self._dropped.popleft()
            for sequence in ids:
                context.truncate(sequence)
            if context is self._shared:
                self._free.extend(ids)
                continue
            self._used.remove(context)
            self._idle.append(context)
            if len(self._idle) > _IDLE:
                self._idle.pop(0).close()

    def close(self) -> None:
        """Free all contexts."""
        for context in [*self._used, *self._idle, *([self._shared] if self._shared else [])]:
            context.close()
        self._used, self._idle, self._shared = [], [], None
        self._dropped.clear()


def separate_rows(rows: int) -> int:
    """Return the sequences of the context that a cache of `rows` rows gets."""
    return _rounded(rows)


def separate_tokens(tokens: int) -> int:
    """Return the tokens for which each sequence of that context has memory."""
    return _CELLS * _rounded(-(-tokens // _CELLS))


def _rounded(count: int) -> int:
    """Return at least 1 and `count`, and at most a quarter more: contexts of few sizes are reused more often."""
    step = 1 << max((count - 1).bit_length() - 3, 0)
    return max(1, -(-count // step) * step)


class SequenceCache:
    """Implements `runtimes.base.Cache`. Row b is the sequence `ids[b]`, of which `row_lengths[b]` tokens are held.

    The first `shared_tokens` of each row belong to the prefix of a branch, into which rows cannot be rewound. A cache
    without `keeps` stores no tokens: what a forward pass appends to its rows is removed again.
    """

    keeps = True

    def __init__(self, memory: Memory, rows: int, capacity: int | None, shared_tokens: int = 0):
        """Create empty rows: with `capacity` tokens of memory each, or (None) in the memory that branches share."""
        self._memory, self._capacity, self.shared_tokens = memory, capacity, shared_tokens
        if capacity is None:
            self.context, self.ids = memory.shared(rows)
        else:
            self.context, self.ids = memory.separate(rows, capacity), list(range(rows))
        self.row_lengths = [0] * rows
        self._prefix: SequenceCache | None = None  # row 0 in shared memory, for branches
        weakref.finalize(self, memory.drop, self.context, tuple(self.ids)).atexit = False

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self.row_lengths)

    def branch(self, rows: int, keeps: bool) -> SequenceCache:
        """Return rows that share the memory of row 0. Its tokens are copied to shared memory once for all branches."""
        if self._capacity is not None and self._prefix is None:
            self._prefix = SequenceCache(self._memory, 1, None)
            self._prefix.replace([0], self, [0])
        branch = (self._prefix or self).select([0] * rows)
        branch.shared_tokens, branch.keeps = self.row_lengths[0], keeps
        return branch

    def select(self, rows: Sequence[int]) -> SequenceCache:
        """Return the given rows, in that order."""
        selected = SequenceCache(self._memory, len(rows), self._capacity, self.shared_tokens)
        selected.replace(range(len(rows)), self, rows)
        selected.keeps = self.keeps
        return selected

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer, or below a shared prefix."""
        shared = self.shared_tokens
        check_rewind([length - shared for length in self.row_lengths], [length - shared for length in lengths])
        self.truncate(lengths)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` stored tokens of row b, unchecked."""
        for sequence, length in zip(self.ids, lengths, strict=True):
            self.context.truncate(sequence, length)
        self.row_lengths, self._prefix = list(lengths), None

    def replace(self, rows: Sequence[int], source: SequenceCache, source_rows: Sequence[int] | None = None) -> None:
        """Replace row `rows[i]` by row i of another cache, or by its row `source_rows[i]`."""
        taken = range(len(source.ids)) if source_rows is None else source_rows
        for row, other in zip(rows, taken, strict=True):
            self.context.truncate(self.ids[row])
            if self.context is source.context and self.context.size.is_shared:
                self.context.share(source.ids[other], self.ids[row])
            elif source.row_lengths[other]:
                self.context.copy(source.context, source.ids[other], self.ids[row])
            self.row_lengths[row] = source.row_lengths[other]
        self._prefix = None

    def advance(self, lengths: Sequence[int]) -> None:
        """Count the new tokens that the context has stored."""
        self.row_lengths = [old + new for old, new in zip(self.row_lengths, lengths, strict=True)]
        self._prefix = None
