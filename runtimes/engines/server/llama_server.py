"""llama.cpp's own server, started here over a GGUF file, with continuous batching and HTTP as users run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines import llamacpp_kv, llamacpp_library
from runtime_matrix.runtimes.engines.server.started import StartedServer, reserved_tokens
from runtime_matrix.runtimes.gguf_header import is_gguf
from runtime_matrix.runtimes.weights import full, gguf_file

_START_S = 120.0
_SLOT_TOKENS = 1024  # for a model that states no length
_MODULE = "runtime_matrix.runtimes.engines.server.llama_process"


class LlamaServer(StartedServer):
    """xllamacpp's server as a child process.

    `slots` sequences are computed together, each of at most `slot_tokens` tokens (None: the model's length, or the
    fewer that are asked for).
    `kv_dtype` and `flash_attention` are as for `LlamaCpp`.
    """

    weight_forms = frozenset({"dense", "gguf"})
    adapter_modes = frozenset({"merged"})
    distributions = ("xllamacpp", "gguf", "httpx")
    option_checks = ("runtimes.engines.llamacpp_kv:check_options",)
    rounding_options = ("kv_dtype", "flash_attention")

    def __init__(
        self,
        dtype: str = "float32",
        slots: int = 8,
        slot_tokens: int | None = None,
        kv_dtype: str | None = None,
        flash_attention: bool = False,
        weights: Weights | None = None,
        **client: Any,
    ):
        super().__init__(dtype, _START_S, client)
        self._slots, self._slot_tokens = slots, slot_tokens
        self._kv_dtype, self._flash_attention = kv_dtype or dtype, flash_attention
        self._prefix_cache_of_slots = bool(client.get("prefix_cache", True))
        self._weights: Weights = weights or full.Full()

    @override
    def check(self, hw: Hardware) -> None:
        if hw.device != "cpu":
            raise Unsupported(f"the wheel of xllamacpp computes on the CPU only, not on {hw.device}: use hw=cpu")
        llamacpp_library.check()
        gguf_file.check(self._weights, self._dtype)
        llamacpp_kv.check_options({"kv_dtype": self._kv_dtype, "flash_attention": self._flash_attention})
        self.check_options()
        if self._slots < 1:
            raise Unsupported(f"runtime.engine.slots={self._slots} must be positive")

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        kv_bytes = llamacpp_kv.bytes_per_token(model, self._kv_dtype)
        return replace(traits, kv_dtype=self._kv_dtype, kv_bytes_per_token=kv_bytes)

    @override
    def prepare(self, model: ModelSource, hw: Hardware, phase: Phase) -> Path:
        llamacpp_kv.check_model(model, self._kv_dtype)
        with phase("export"):
            file = gguf_file.written(model, self._weights, self._dtype, hw, phase)
        if self._slot_tokens is None:
            is_file = model.folder is not None and is_gguf(model.folder)
            length = None if is_file else gguf_file.stored_config(model).get("max_position_embeddings")
            self._slot_tokens = reserved_tokens(model.max_tokens, length) or _SLOT_TOKENS
        return file

    @override
    def command(self, path: Path, name: str, port: int, hw: Hardware) -> tuple[Sequence[str], Mapping[str, str]]:
        options = {
            "model": str(path),
            "alias": name,
            "port": port,
            "slots": self._slots,
            "slot_tokens": self._slot_tokens,
            "prefix_cache": self._prefix_cache_of_slots,
            "threads": hw.threads,
            "kv_type": llamacpp_kv.KV_TYPES[self._kv_dtype].ggml_name,
            "flash_attention": self._flash_attention,
        }
        return [sys.executable, "-m", _MODULE, json.dumps(options)], {}
