"""One model and one context of llama.cpp: the memory of all sequences, and the computation of a batch.

The rows of a batch are the sequences of one unified memory. A token is multiplied with the keys of all sequences, and
a mask hides those of the others. Shapes: N tokens of all rows, M wanted tokens, V vocabulary.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines import llamacpp_library

Array = np.ndarray[Any, Any]
KV_TYPES = {"float32": 0, "float16": 1, "bfloat16": 30}  # ggml_type of keys and values
_FIRST_TOKENS = 512  # of a context that grows
_AT_ONCE = 512  # tokens of one call: the library allocates its scores and logits for as many


@dataclass(frozen=True)
class Settings:
    """What is fixed when a context is created."""

    threads: int
    kv_dtype: str
    flash_attention: bool
    sequences: int
    tokens: int | None  # of all sequences; None: grows as needed


@dataclass(frozen=True)
class Tokens:
    """The new tokens of a batch, row by row. Those of one sequence are in the order of their positions."""

    ids_N: Array
    positions_N: Array
    sequences_N: Array
    wanted_N: Array  # bool: whether the logits at this token are returned


class Context:
    """A loaded GGUF file. Raises Unsupported, with llama.cpp's reason in one line, if it cannot be loaded."""

    def __init__(self, file: Path, settings: Settings):
        self._library, self._log = llamacpp_library.opened()
        self._settings, self.growths = settings, 0
        self._model: int | None = self._library.llama_model_load_from_file(
            str(file).encode(), self._library.llama_model_default_params()
        )
        if not self._model:
            raise Unsupported(f"llama.cpp cannot load {file.name}: {self._log.first_error()}")
        self.vocabulary = int(self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model)))
        self.trained_tokens = int(self._library.llama_model_n_ctx_train(self._model))
        self.weight_bytes = int(self._library.llama_model_size(self._model))
        self._buffers = _Buffers(_AT_ONCE)
        self._context: int | None = None
        try:
            self._create(settings.tokens or _FIRST_TOKENS)
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Return whether the context has not been closed."""
        return self._context is not None

    @property
    def tokens(self) -> int:
        """Return the number of tokens that all sequences together may hold now."""
        return int(self._library.llama_n_ctx(self._context))

    def copy(self, source: int, target: int) -> None:
        """Let the empty sequence `target` share the tokens of `source`; nothing is copied in memory."""
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def truncate(self, sequence: int, length: int = 0) -> None:
        """Remove all tokens of a sequence after the first `length`."""
        if not self._library.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise RuntimeError(f"llama.cpp cannot truncate a sequence to {length} tokens")

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """Run the tokens, append them to their sequences and return the logits (M, V) at the wanted ones.

        Raises ValueError if a context of fixed size is full; some of the tokens may then be stored.
        """
        logits_MV = torch.empty(int(tokens.wanted_N.sum()), self.vocabulary)
        done = 0
        for start in range(0, len(tokens.ids_N), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            wanted = int(tokens.wanted_N[part].sum())
            self._run(self._buffers.filled(tokens, part))
            if wanted:
                logits_MV[done : done + wanted] = self._logits(wanted)
            done += wanted
        return logits_MV

    def close(self) -> None:
        """Free the context and the model. Safe to call twice."""
        if self._context:
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)
        self._context = self._model = None

    @property
    def _memory(self) -> int:
        return int(self._library.llama_get_memory(self._context))

    def _run(self, batch: llamacpp_library.Batch) -> None:
        code = self._library.llama_decode(self._context, batch)
        while code == llamacpp_library.NO_SLOT:
            self._grow()
            code = self._library.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode failed with the code {code}: {self._log.first_error()}")

    def _logits(self, rows: int) -> torch.Tensor:
        """Return a view (rows, V) that is valid until the next call of the library."""
        address = self._library.llama_get_logits(self._context)
        values = (ctypes.c_float * (rows * self.vocabulary)).from_address(address)
        return torch.frombuffer(values, dtype=torch.float32).view(rows, self.vocabulary)

    def _create(self, tokens: int) -> None:
        options = self._library.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_outputs_max = tokens, _AT_ONCE, _AT_ONCE, _AT_ONCE
        options.n_threads = options.n_threads_batch = self._settings.threads
        options.n_seq_max, options.kv_unified = self._settings.sequences, True
        options.type_k = options.type_v = KV_TYPES[self._settings.kv_dtype]
        options.flash_attn_type = int(self._settings.flash_attention)
        self._context = self._library.llama_init_from_model(self._model, options)
        if not self._context:
            raise MemoryError(
                f"llama.cpp cannot create a context of {tokens} tokens: {self._log.first_error()} (out of memory?)"
            )

    def _grow(self) -> None:
        """Move all sequences to a context of twice the size. ValueError if the size is fixed."""
        if self._settings.tokens is not None:
            raise ValueError(
                f"the context of {self.tokens} tokens is full: raise runtime.engine.context_tokens, or set it to null "
                "for a context that grows"
            )
        tokens, size = 2 * self.tokens, self._library.llama_state_get_size(self._context)
        state = (ctypes.c_int8 * size)()
        stored = self._library.llama_state_get_data(self._context, state, size)
        self._library.llama_free(self._context)
        self._create(tokens)
        if not stored or self._library.llama_state_set_data(self._context, state, stored) != stored:
            raise RuntimeError(f"llama.cpp cannot move its state to {tokens} tokens: {self._log.first_error()}")
        self.growths += 1


class _Buffers:
    """The arrays of a batch, whose addresses never change."""

    def __init__(self, size: int):
        self._ids_N, self._positions_N, self._sequences_N = (np.zeros(size, dtype=np.int32) for _ in range(3))
        self._wanted_N = np.zeros(size, dtype=np.int8)
        self._ones_N = np.ones(size, dtype=np.int32)  # each token belongs to one sequence
        self._addresses_N = (self._sequences_N.ctypes.data + 4 * np.arange(size)).astype(np.uintp)
        arrays = (self._ids_N, None, self._positions_N, self._ones_N, self._addresses_N, self._wanted_N)
        self._batch = llamacpp_library.Batch(0, *(None if array is None else array.ctypes.data for array in arrays))

    def filled(self, tokens: Tokens, part: slice) -> llamacpp_library.Batch:
        """Return the batch with this part of the tokens, valid until the next call."""
        ids_N = tokens.ids_N[part]
        count = self._batch.n_tokens = len(ids_N)
        self._ids_N[:count] = ids_N
        self._positions_N[:count] = tokens.positions_N[part]
        self._sequences_N[:count] = tokens.sequences_N[part]
        self._wanted_N[:count] = tokens.wanted_N[part]
        return self._batch
