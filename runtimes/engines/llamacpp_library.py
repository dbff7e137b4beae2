"""llama.cpp's C interface, from the library inside the package xllamacpp: structs, functions and the log.

The structs change between builds and the library cannot tell its build. Therefore one version of the package is
accepted, and the defaults that the library fills in are compared with the known ones: a field at another place differs.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections import deque
from ctypes import c_bool, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.weights.packages import require

VERSION = "2026.10.11549"  # of xllamacpp
MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ of the build
NO_SLOT = 1  # of llama_decode: the context is full, and nothing was changed
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_ERROR, _CONTINUED = 4, 5  # ggml_log_level


class ModelParams(ctypes.Structure):
    """`llama_model_params`."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        *((name, c_bool) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc")),
        ("load_mtp", c_bool),
    )


class ContextParams(ctypes.Structure):
    """`llama_context_params`."""

    _fields_ = (
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")),
        *((name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")),
        *((name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type")),
        *((name, c_int32) for name in ("pooling_type", "attention_type", "flash_attn_type")),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor")),
        *((name, c_float) for name in ("yarn_beta_fast", "yarn_beta_slow")),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", c_void_p),  # int32
        ("embd", c_void_p),
        ("pos", c_void_p),  # int32
        ("n_seq_id", c_void_p),  # int32
        ("seq_id", c_void_p),  # pointers to int32
        ("logits", c_void_p),  # int8: whether the token's logits are wanted
    )


# What the library fills in; every other field is zero.
MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "use_extra_bufts": True}
CONTEXT_DEFAULTS = {
    **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1},
    **{"n_threads": 4, "n_threads_batch": 4, "type_k": 1, "type_v": 1},
    **dict.fromkeys(("rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type"), -1),
    **dict.fromkeys(("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "defrag_thold"), -1.0),
    **dict.fromkeys(("offload_kqv", "no_perf", "op_offload", "swa_full"), True),
}
# Result and arguments of each function that is called.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "llama_backend_init": (None,),
    "llama_log_set": (None, _Log, c_void_p),
    "llama_model_default_params": (ModelParams,),
    "llama_context_default_params": (ContextParams,),
    "llama_model_load_from_file": (c_void_p, c_char_p, ModelParams),
    "llama_model_free": (None, c_void_p),
    "llama_model_get_vocab": (c_void_p, c_void_p),
    "llama_model_n_ctx_train": (c_int32, c_void_p),
    "llama_model_size": (c_uint64, c_void_p),
    "llama_vocab_n_tokens": (c_int32, c_void_p),
    "llama_init_from_model": (c_void_p, c_void_p, ContextParams),
    "llama_free": (None, c_void_p),
    "llama_get_memory": (c_void_p, c_void_p),
    "llama_memory_seq_cp": (None, c_void_p, c_int32, c_int32, c_int32, c_int32),
    "llama_memory_seq_rm": (c_bool, c_void_p, c_int32, c_int32, c_int32),
    "llama_state_get_size": (c_size_t, c_void_p),
    "llama_state_get_data": (c_size_t, c_void_p, c_void_p, c_size_t),
    "llama_state_set_data": (c_size_t, c_void_p, c_void_p, c_size_t),
    "llama_state_seq_get_size": (c_size_t, c_void_p, c_int32),
    "llama_state_seq_get_data": (c_size_t, c_void_p, c_void_p, c_size_t, c_int32),
    "llama_state_seq_set_data": (c_size_t, c_void_p, c_void_p, c_size_t, c_int32),
    "llama_decode": (c_int32, c_void_p, Batch),
    "llama_get_logits": (c_void_p, c_void_p),
}


class Log:
    """Keeps llama.cpp's last errors instead of printing its log."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=8)
        self._is_error = False
        self.callback = _Log(self._add)

    def _add(self, level: int, text: bytes | None, _: Any) -> None:
        self._is_error = level == _ERROR or (level == _CONTINUED and self._is_error)
        line = (text or b"").decode("utf-8", "replace").strip()
        if self._is_error and line:
            self._errors.append(line)

    def first_error(self) -> str:
        """Return the first error since the last call, in one line, and forget all of them."""
        first = self._errors[0].splitlines()[0] if self._errors else "llama.cpp gave no reason"
        self._errors.clear()
        return first


def check() -> None:
    """Raise Unsupported if the package is missing or has another version than the structs are written for."""
    require("xllamacpp", "llamacpp")
    found = importlib.metadata.version("xllamacpp")
    if found != VERSION:
        raise Unsupported(
            f"xllamacpp {found} is installed, and its structs are known for {VERSION}: "
            "pip install 'runtime-matrix[llamacpp]'"
        )


@cache
def opened() -> tuple[Any, Log]:
    """Return the library and its log, which the process shares. Raises Unsupported if the structs are other ones."""
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so")
    library = ctypes.CDLL(str(file))
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    check_defaults(library)
    log = Log()
    library.llama_log_set(log.callback, None)
    library.llama_backend_init()
    return library, log


def check_defaults(library: Any) -> None:
    """Raise Unsupported, in one line, if a default of the library is not the known one."""
    for params, known in (
        (library.llama_model_default_params(), MODEL_DEFAULTS),
        (library.llama_context_default_params(), CONTEXT_DEFAULTS),
    ):
        for name, _ in params._fields_:
            found, expected = getattr(params, name), known.get(name, 0)
            if (found or 0) != expected:
                raise Unsupported(
                    f"llama.cpp's {type(params).__name__}.{name} is {found} by default, not {expected}: its structs "
                    f"are not those of xllamacpp {VERSION}"
                )
