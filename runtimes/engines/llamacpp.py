"""llama.cpp in this process, on a CPU, over a GGUF file that is written from the model or given.

Shapes: B rows, T new tokens per row, K requested positions, N new tokens of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    LOGITS,
    Hardware,
    ModelSource,
    Outputs,
    Phase,
    Runtime,
    Traits,
    Unsupported,
    Weights,
    check_outputs,
)
from runtime_matrix.runtimes.engines import llamacpp_kv, llamacpp_library
from runtime_matrix.runtimes.engines.llamacpp_cache import Memory, SequenceCache, separate_rows, separate_tokens
from runtime_matrix.runtimes.engines.llamacpp_model import Array, Model, Settings, Tokens
from runtime_matrix.runtimes.engines.positions import last_positions
from runtime_matrix.runtimes.footprint import Footprint, Load, ModelSizes
from runtime_matrix.runtimes.weights import full, gguf_file

_CACHES = 4  # a batch may need its cache, a selection of it, fresh rows and a prefix at the same time
_OWN_BYTES = 25 * 2**20
_BATCH_TOKENS = 512  # tokens of one call of the library; larger batches are not faster


class LlamaCpp(Runtime):
    """A GGUF file run by llama.cpp.

    Keys and values have the type `kv_dtype` (`llamacpp_kv.KV_TYPES`); None: the runtime's dtype. `flash_attention`
    computes attention in float16, and quantized keys and values need it.
    Rows have memory of their own, and the rows of a branch share one; with `kv_unified`, all rows share it. There each
    row also computes scores for the other rows' tokens. `context_tokens` is the size of the shared memory; None: it
    grows as needed. `max_sequences` is the most rows in it, at most 256; a batch has up to a quarter of them.
    """

    weight_forms = frozenset({"dense", "gguf"})
    adapter_modes = frozenset({"merged"})
    distributions = ("xllamacpp", "gguf")
    option_checks = ("runtimes.engines.llamacpp_kv:check_options",)
    rounding_options = ("kv_dtype", "flash_attention")

    def __init__(
        self,
        dtype: str = "float32",
        kv_dtype: str | None = None,
        flash_attention: bool = False,
        context_tokens: int | None = None,
        max_sequences: int = 256,
        kv_unified: bool = False,
        weights: Weights | None = None,
    ):
        self._dtype, self._kv_dtype = dtype, kv_dtype or dtype
        self._flash_attention, self._context_tokens = flash_attention, context_tokens
        self._max_sequences, self._kv_unified = max_sequences, kv_unified
        self._weights: Weights = weights or full.Full()
        self._model: Model | None = None
        self._memory: Memory | None = None

    @override
    def check(self, hw: Hardware) -> None:
        if hw.device != "cpu":
            raise Unsupported(f"the wheel of xllamacpp computes on the CPU only, not on {hw.device}: use hw=cpu")
        llamacpp_library.check()
        gguf_file.check(self._weights, self._dtype)
        llamacpp_kv.check_options({"kv_dtype": self._kv_dtype, "flash_attention": self._flash_attention})
        if not _CACHES <= self._max_sequences <= llamacpp_library.MOST_SEQUENCES:
            raise Unsupported(
                f"runtime.engine.max_sequences={self._max_sequences} must be from {_CACHES} to "
                f"{llamacpp_library.MOST_SEQUENCES}"
            )
        if self._context_tokens is not None and self._context_tokens < 1:
            raise Unsupported(f"runtime.engine.context_tokens={self._context_tokens} must be positive or null")

    @override
    def footprint(self, model: ModelSource, sizes: ModelSizes, load: Load, hw: Hardware) -> Footprint | None:
        declared = getattr(self._weights, "footprint", None)
        kept = llamacpp_kv.bytes_per_token(model, self._kv_dtype)
        if declared is None or kept is None:
            return None
        weights = declared(sizes, self._dtype)
        is_written = gguf_file.is_written(model, self._weights, self._dtype, hw)
        cells = separate_rows(load.rows) * separate_tokens(load.capacity)
        at_once = min(_BATCH_TOKENS, load.rows * load.prompt_tokens)
        scores = Load(1, at_once, 0)
        run = (
            weights.held_bytes
            + cells * kept
            + sizes.activation_bytes(at_once, "float32")
            + sizes.score_bytes(scores, "float32")
            + 2 * sizes.logits_bytes(load.rows)
        )
        written = 0 if is_written else weights.load_bytes
        return Footprint(max(written, weights.held_bytes) + _OWN_BYTES, run + _OWN_BYTES)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        llamacpp_kv.check_model(model, self._kv_dtype)
        torch.set_num_threads(hw.threads)
        with phase("import"):
            llamacpp_library.opened()
        with phase("export"):
            file = gguf_file.written(model, self._weights, self._dtype, hw, phase)
        with phase("session"):
            self._model = loaded = Model(file, Settings(hw.threads, self._kv_dtype, self._flash_attention))
            self._memory = Memory(loaded, self._max_sequences, self._context_tokens)
        self._traits = Traits(
            vocabulary=loaded.vocabulary,
            max_length=loaded.trained_tokens or None,
            dtype=self._dtype,
            weight_bytes=loaded.weight_bytes,
            weight_disk_bytes=file.stat().st_size,
            kv_dtype=self._kv_dtype,
            kv_bytes_per_token=llamacpp_kv.bytes_per_token(model, self._kv_dtype),
            max_batch=self._max_sequences // _CACHES,
            shares_prefix=True,
            packs_rows=True,
            batch_tokens=_BATCH_TOKENS,
            notes=("flash attention computes in float16",) if self._flash_attention else (),
            build_phases=frozenset({"export"}),
        )
        return self._traits

    @override
    def new_cache(self, rows: int, capacity: int) -> SequenceCache:
        return SequenceCache(self._loaded, rows, None if self._kv_unified else capacity)

    @override
    def branch(self, cache: SequenceCache, rows: int, capacity: int) -> SequenceCache:
        return cache.branch(rows, keeps=capacity > 0)

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: SequenceCache | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        check_outputs(outputs, self._traits)
        held = cache if cache is not None else self.new_cache(len(lengths), ids_BT.shape[1])
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        tokens, index_BK = _packed(ids_BT.numpy(), np.asarray(lengths), held, at_BK.numpy())
        self._loaded.reclaim()
        try:
            logits_MV = held.context.decode(tokens, held.keeps)
        except BaseException:
            held.truncate(held.row_lengths)  # removes what was stored before the failure
            raise
        if held.keeps:
            held.advance(lengths)
        return Outputs(_gathered(logits_MV, index_BK))

    @override
    def synchronize(self) -> None:
        """Do nothing: `forward` is synchronous."""

    @override
    def counters(self) -> dict[str, int]:
        return {"context_growths": self._loaded.growths}

    @override
    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        if self._model is not None:
            self._model.close()
        self._memory = self._model = None

    @property
    def _loaded(self) -> Memory:
        assert self._memory is not None
        return self._memory


def _packed(ids_BT: Array, lengths_B: Array, cache: SequenceCache, at_BK: Array) -> tuple[Tokens, Array]:
    """Return the rows' tokens without padding, and the index (B, K) of each requested position among the wanted."""
    starts_B = lengths_B.cumsum() - lengths_B
    row_N = np.repeat(np.arange(len(lengths_B)), lengths_B)
    token_N = np.arange(len(row_N)) - starts_B[row_N]
    positions_N = np.asarray(cache.row_lengths)[row_N] + token_N
    # Positions may lie in the padding of shorter rows, where the outputs are undefined: the last token stands for them.
    at_BK = starts_B[:, None] + np.clip(at_BK, 0, np.maximum(lengths_B - 1, 0)[:, None])
    at_BK = at_BK.clip(max=max(len(row_N) - 1, 0))
    wanted_N = np.zeros(len(row_N), dtype=bool)
    wanted_N[at_BK] = True
    index_BK = wanted_N.cumsum()[at_BK] - 1
    return Tokens(ids_BT[row_N, token_N], positions_N, np.asarray(cache.ids)[row_N], wanted_N), index_BK


def _gathered(logits_MV: torch.Tensor, index_BK: Array) -> torch.Tensor:
    """Return (B, K, V); without a copy if every wanted token was requested once, in order."""
    if np.array_equal(index_BK.ravel(), np.arange(len(logits_MV))):
        return logits_MV.view(*index_BK.shape, -1)
    return logits_MV[torch.from_numpy(index_BK)]
