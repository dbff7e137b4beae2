"""A GGUF file that llama.cpp has loaded, and what all contexts over it have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines import llamacpp_library
from runtime_matrix.runtimes.engines.llamacpp_kv import KV_TYPES

Array = np.ndarray[Any, Any]
AT_ONCE = 512  # tokens of one call: the library allocates its scores and logits for as many


@dataclass(frozen=True)
class Settings:
    """How contexts compute."""

    threads: int
    kv_dtype: str
    flash_attention: bool


@dataclass(frozen=True)
class Tokens:
    """The new tokens of a batch, row by row. Those of one sequence are in the order of their positions. N tokens."""

    ids_N: Array
    positions_N: Array
    sequences_N: Array
    wanted_N: Array  # bool: whether the logits at this token are returned


class Model:
    """A loaded GGUF file. Raises Unsupported, with llama.cpp's reason in one line, if it cannot be loaded."""

    def __init__(self, file: Path, settings: Settings):
        self.library, self.log = llamacpp_library.opened()
        self._settings = settings
        self.address: int | None = self.library.llama_model_load_from_file(
            str(file).encode(), self.library.llama_model_default_params()
        )
        if not self.address:
            raise Unsupported(f"llama.cpp cannot load {file.name}: {self.log.first_error()}")
        self.vocabulary = int(self.library.llama_vocab_n_tokens(self.library.llama_model_get_vocab(self.address)))
        self.trained_tokens = int(self.library.llama_model_n_ctx_train(self.address))
        self.weight_bytes = int(self.library.llama_model_size(self.address))
        self.buffers = _Buffers(AT_ONCE)

    def options(self) -> llamacpp_library.ContextParams:
        """Return the parameters of a context, except for the size of its memory."""
        options: llamacpp_library.ContextParams = self.library.llama_context_default_params()
        options.n_batch = options.n_ubatch = options.n_outputs_max = AT_ONCE
        options.n_threads = options.n_threads_batch = self._settings.threads
        options.type_k = options.type_v = KV_TYPES[self._settings.kv_dtype].number
        options.flash_attn_type = int(self._settings.flash_attention)
        return options

    def close(self) -> None:
        """Free the weights. All contexts must be closed. Safe to call twice."""
        if self.address:
            self.library.llama_model_free(self.address)
        self.address = None


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
