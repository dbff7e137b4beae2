"""One context of llama.cpp: the memory of its sequences, and the computation of a batch.

The sequences of a context have their own memory, or share one. In shared memory rows hold a common prefix once, and a
token is also multiplied with the keys of the other sequences, which a mask hides. Shapes: N tokens of all rows, M
wanted tokens, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from runtime_matrix.runtimes.engines import llamacpp_library
from runtime_matrix.runtimes.engines.llamacpp_model import AT_ONCE, Array, Model, Tokens

_LONG = 32  # new tokens of a row; shorter rows are computed together even where their lengths differ
_SHARED_AT_ONCE = 128  # tokens of one call in shared memory, where more tokens score more of each other in vain
_WORD = 4  # bytes of the numbers in the head of a state


@dataclass(frozen=True)
class Size:
    """The memory of a context. `tokens` are those of each sequence, or of all together if they share memory."""

    sequences: int
    tokens: int
    is_shared: bool = False
    grows: bool = False  # whether a full context is replaced by one of twice the tokens

    def fits(self, rows: int, tokens: int) -> bool:
        """Return whether it has so many sequences of so many tokens."""
        return self.sequences >= rows and self.tokens >= tokens


class Context:
    """The memory of some sequences over a model. MemoryError if there is not enough."""

    def __init__(self, model: Model, size: Size):
        self._model, self.size, self.growths = model, size, 0
        self._library = model.library
        self._context = self._created(size)

    @property
    def _memory(self) -> int:
        return int(self._library.llama_get_memory(self._context))

    def share(self, source: int, target: int) -> None:
        """Let the empty sequence `target` share the tokens of `source`; nothing is copied. For shared memory."""
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def copy(self, source: Context, source_sequence: int, target: int) -> None:
        """Replace the sequence `target` by a copy of one of another context, or of this one."""
        state, streams = source._state(source_sequence), self._streams
        # The state is: magic, sequence, number of streams, then of each stream the number of its cells and their data.
        # All streams but that of the sequence are empty.
        first = _WORD * (3 + (0 if source.size.is_shared else source_sequence))
        data = state[first : first + len(state) - _WORD * (3 + source._streams - 1)]
        number = np.array([streams], dtype=np.uint32).view(np.uint8)
        moved = np.concatenate([state[: 2 * _WORD], number, data, np.zeros(_WORD * (streams - 1), dtype=np.uint8)])
        enough = self.size.tokens + int(data[:_WORD].view(np.uint32)[0])
        while not self._restored(moved, target):
            if self.size.tokens >= enough:
                raise RuntimeError(f"llama.cpp cannot copy a sequence: {self._model.log.first_error()}")
            self._grow()

    def truncate(self, sequence: int, length: int = 0) -> None:
        """Remove all tokens of a sequence after the first `length`."""
        if not self._library.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise RuntimeError(f"llama.cpp cannot truncate a sequence to {length} tokens")

    def decode(self, tokens: Tokens, keeps: bool = True) -> torch.Tensor:
        """Run the tokens, append them to their sequences and return the logits (M, V) at the wanted ones.

        Without `keeps`, a row's tokens are removed once all have been run, so that later rows do not score them.
        Raises ValueError if a context of fixed size is full; some of the tokens may then be stored.
        """
        logits_MV = torch.empty(int(tokens.wanted_N.sum()), self._model.vocabulary)
        done = 0
        for part in _calls(tokens.sequences_N, self.size.is_shared):
            wanted = int(tokens.wanted_N[part].sum())
            self._run(self._model.buffers.filled(tokens, part))
            if wanted:
                logits_MV[done : done + wanted] = self._logits(wanted)
            done += wanted
            if not keeps:
                self._forget(tokens, part)
        return logits_MV

    def close(self) -> None:
        """Free the memory. Safe to call twice."""
        if self._context:
            self._library.llama_free(self._context)
        self._context = 0

    @property
    def _streams(self) -> int:
        return 1 if self.size.is_shared else self.size.sequences

    def _state(self, sequence: int) -> Array:
        state = np.empty(self._library.llama_state_seq_get_size(self._context, sequence), dtype=np.uint8)
        stored = self._library.llama_state_seq_get_data(self._context, state.ctypes.data, len(state), sequence)
        if stored != len(state):
            raise RuntimeError(f"llama.cpp cannot read a sequence: {self._model.log.first_error()}")
        return state

    def _restored(self, state: Array, sequence: int) -> bool:
        """Replace a sequence by a stored state; return whether there was enough space."""
        stored = self._library.llama_state_seq_set_data(self._context, state.ctypes.data, len(state), sequence)
        return int(stored) == len(state)

    def _forget(self, tokens: Tokens, part: slice) -> None:
        """Remove the new tokens of the rows that end in this part of a batch."""
        last_R = np.flatnonzero(np.diff(tokens.sequences_N, append=-1))
        first_R = np.concatenate([[0], last_R[:-1] + 1])
        for first in first_R[(last_R >= part.start) & (last_R < part.stop)].tolist():
            self.truncate(int(tokens.sequences_N[first]), int(tokens.positions_N[first]))

    def _run(self, batch: llamacpp_library.Batch) -> None:
        code = self._library.llama_decode(self._context, batch)
        while code == llamacpp_library.NO_SLOT:
            self._grow()
            code = self._library.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode failed with the code {code}: {self._model.log.first_error()}")

    def _logits(self, rows: int) -> torch.Tensor:
        """Return a view (rows, V) that is valid until the next call of the library."""
        address = self._library.llama_get_logits(self._context)
        values = (ctypes.c_float * (rows * self._model.vocabulary)).from_address(address)
        return torch.frombuffer(values, dtype=torch.float32).view(rows, self._model.vocabulary)

    def _created(self, size: Size) -> int:
        options = self._model.options()
        options.n_ctx = size.tokens * (1 if size.is_shared else size.sequences)
        options.n_seq_max, options.kv_unified = size.sequences, size.is_shared
        context = self._library.llama_init_from_model(self._model.address, options)
        if not context:
            raise MemoryError(
                f"llama.cpp cannot create a context of {options.n_ctx} tokens: {self._model.log.first_error()} "
                "(out of memory?)"
            )
        return int(context)

    def _grow(self) -> None:
        """Move all sequences to a context of twice the size. ValueError if the size is fixed."""
        if not self.size.grows:
            raise ValueError(self._full())
        size = replace(self.size, tokens=2 * self.size.tokens)
        larger = self._created(size)  # first, so that a lack of memory leaves everything as it was
        state = np.empty(self._library.llama_state_get_size(self._context), dtype=np.uint8)
        stored = self._library.llama_state_get_data(self._context, state.ctypes.data, len(state))
        self.close()
        self._context, self.size = larger, size
        if not stored or self._library.llama_state_set_data(self._context, state.ctypes.data, stored) != stored:
            raise RuntimeError(
                f"llama.cpp cannot move its state to {size.tokens} tokens: {self._model.log.first_error()}"
            )
        self.growths += 1

    def _full(self) -> str:
        if self.size.is_shared:
            return (
                f"the shared memory of {self.size.tokens} tokens is full: raise runtime.engine.context_tokens, or set "
                "it to null for memory that grows"
            )
        return f"a row of the cache has space for {self.size.tokens} tokens: create the cache with a larger capacity"


def _calls(sequences_N: Array, is_shared: bool) -> Iterator[slice]:
    """Split the tokens of a batch into calls of the library.

    With memory of their own, rows are computed together as far as their numbers of new tokens are equal; where these
    differ, the library cuts the rows into small pieces, so that long rows are faster one by one.
    """
    starts = [0] if is_shared else np.flatnonzero(np.diff(sequences_N, prepend=-1)).tolist()
    most = _SHARED_AT_ONCE if is_shared else AT_ONCE
    start, last = 0, 0
    for begin, end in pairwise([*starts, len(sequences_N)]):
        differs = end - begin != last and max(end - begin, last) >= _LONG
        if begin > start and (differs or end - start > most):
            yield slice(start, begin)
            start = begin
        while end - start > most:
            yield slice(start, start + most)
            start += most
        last = end - begin
    if start < len(sequences_N):
        yield slice(start, len(sequences_N))
