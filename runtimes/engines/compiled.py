"""`torch.compile`: compiled prefill in shape buckets, and a compiled step over a static cache.

Shapes: B rows, T new tokens, K wanted positions, H key-value heads, N slots, D head width.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import Buckets, Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines.cuda_graph import CachePool, CapturedStep, fastest
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.slots import SlotCache, round_up
from runtime_matrix.runtimes.weights.packages import import_all

# torch's own; cuda_graph: the default mode with its step captured by hand; auto: the faster one on this GPU.
_MODES = ("auto", "cuda_graph", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_WITH_GRAPHS = ("auto", "cuda_graph", "reduce-overhead", "max-autotune")
_CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
_ATEN_GRAIN = 32768  # elements a thread, at::internal::GRAIN_SIZE
_BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32)}
_COMPILER = ("torch._dynamo", "torch._inductor.compile_fx", "torch._functorch.partitioners")
# Slots are rounded up, since each size is a graph of its own; and no further, since each step reads them all.
_SMALLEST_CACHE, _SLOTS = 128, 256


class Compiled(Eager):
    places_modules = False  # weights that come and go are no part of a graph
    skips_unwanted = False  # which tokens are wanted changes from call to call, and a graph would be a call's own

    def __init__(
        self,
        dtype: str = "float32",
        attention: str = "sdpa",
        mode: str = "auto",
        batch_buckets: Sequence[int] | None = None,
        token_buckets: Sequence[int] = (64, 256, 512),
        weights: Weights | None = None,
    ):
        super().__init__(dtype, attention, weights)
        if mode not in _MODES:
            raise Unsupported(f"runtime.engine.mode={mode} is unknown: use {', '.join(_MODES)}")
        self._mode = mode
        self._batch_buckets, self._token_buckets = batch_buckets, tuple(token_buckets)
        self._shapes: set[tuple[object, ...]] = set()
        self._pool: CachePool | None = None
        self._tried = 0  # graphs that were compiled and found slower

    @override
    def check(self, hw: Hardware) -> None:
        _require_compiler(hw.device)
        super().check(hw)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        with phase("import"):
            import_all(_COMPILER)
        import torch._dynamo as dynamo
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir

        if os.environ.get(_CACHE_DIR, default_cache_dir()) == default_cache_dir():  # torch itself may have set that
            os.environ[_CACHE_DIR] = str((hw.artifacts / "inductor").resolve())

        dynamo.config.recompile_limit = 64  # one graph a shape is meant; `counters` shows what goes beyond
        dynamo.config.accumulated_recompile_limit = 512
        dynamo.reset()
        dynamo.utils.counters.clear()
        self._artifacts = hw.artifacts
        traits = super().load(model, hw, phase, calibration_ids)
        self._prefill = self._compile(self._prefill_graph, self._mode)
        notes = traits.notes
        if self._mode in _WITH_GRAPHS and hw.device == "cuda":
            self._pool = CachePool(super().new_cache)
            notes += (f"mode {self._mode}: CUDA graphs over pooled caches",)
        elif self._mode in _WITH_GRAPHS and self._mode != "auto":
            notes += (f"mode {self._mode} has CUDA graphs on a GPU only: none were used",)
        self._step: Any = self._compile(self._step_graph, self._mode)
        if self._mode == "cuda_graph" and self._pool is not None:
            self._step = CapturedStep(self._step)
        elif self._mode == "auto" and self._pool is not None:
            with phase("try"):
                notes += (self._choose_step(),)
        buckets = Buckets(tuple(self._batch_buckets or _BATCHES[hw.device]), self._token_buckets)
        traits = replace(traits, shares_prefix=False, packs_rows=False, notes=notes)
        return replace(traits, buckets=buckets, max_batch=max(buckets.batch), build_phases=frozenset({"try"}))

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        slots = _SMALLEST_CACHE if capacity <= _SMALLEST_CACHE else round_up(capacity, _SLOTS)
        return super().new_cache(rows, slots) if self._pool is None else self._pool.take(rows, slots)

    @override
    def counters(self) -> dict[str, int]:
        from torch._dynamo.utils import counters

        graphs, cache = counters["stats"]["unique_graphs"], counters["inductor"]
        return {
            "compiled_graphs": graphs,
            "recompiles": graphs - len(self._shapes) - self._tried,
            "graph_breaks": sum(counters["graph_break"].values()),
            "compile_cache_hits": cache["fxgraph_cache_hit"],
            "compile_cache_misses": cache["fxgraph_cache_miss"],
        }

    @override
    def close(self) -> None:
        super().close()
        self._prefill = self._step = self._pool = None

    def _compile(self, graph: Callable[..., Any], mode: str) -> Any:
        if mode not in ("auto", "cuda_graph", "default"):
            return torch.compile(graph, fullgraph=True, dynamic=False, mode=mode)
        # Without a GPU the calls between kernels are a third of a small model's step: those too in C++. And where
        # threads wait passively, waking them for little work costs more than it saves: as much for each as in ATen.
        return torch.compile(
            graph,
            fullgraph=True,
            dynamic=False,
            options={"cpp_wrapper": self._device == "cpu", "cpp.min_chunk_size": _ATEN_GRAIN},
        )

    def _choose_step(self) -> str:
        """Keep the faster way to replay a step, tried for one row, and return what tells which."""
        steps = {
            "a captured CUDA graph": CapturedStep(self._step),
            "reduce-overhead": self._compile(self._step_graph, "reduce-overhead"),
        }
        cache = self.new_cache(1, _SMALLEST_CACHE)
        name, seconds = fastest({name: partial(self._try_step, step, cache) for name, step in steps.items()})
        self._step, self._tried = steps[name], len(steps) - 1
        return f"mode auto: {name}; " + ", ".join(f"{each}: {1e3 * s:.3f} ms a step" for each, s in seconds.items())

    def _try_step(self, step: Any, cache: SlotCache) -> None:
        self._step, cache.row_lengths = step, [1]
        self.forward(torch.zeros((1, 1), dtype=torch.long), [1], cache)

    @override
    def _run(
        self,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        mask_BTS: torch.Tensor | None,
        cache: SlotCache | None,
    ) -> torch.Tensor:
        at_BK = self._at_BK
        assert at_BK is not None
        # The same number of positions everywhere but in scoring: there it varies, and must not compile anew.
        many = at_BK.shape[1] > 1
        if many:
            torch._dynamo.mark_dynamic(at_BK, 1)
        rows, tokens = ids_BT.shape
        if cache is None or cache.extent == tokens:  # nothing is held yet
            self._shapes.add(("prefill", rows, tokens, many))
            logits, keys, values = self._prefill(ids_BT, positions_BT, at_BK)
            if cache is not None:
                _keep(cache, keys, values)
            return self._own(logits)
        self._shapes.add(("step", rows, tokens, many, cache.slots))
        return self._own(self._step(ids_BT, positions_BT, at_BK, cache.keys, cache.values))

    def _own(self, logits_BKV: torch.Tensor) -> torch.Tensor:
        """Return logits that the next call leaves alone: a CUDA graph writes into the same memory each time."""
        return logits_BKV if self._pool is None else logits_BKV.clone()

    def _prefill_graph(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, at_BK: torch.Tensor) -> Any:
        self._at_BK = at_BK
        seen, positions = _Captured(), self._in_range(positions_BT)
        logits = self._module(input_ids=ids_BT, position_ids=positions, past_key_values=seen, use_cache=True).logits
        return logits, seen.keys, seen.values

    def _step_graph(
        self,
        ids_BT: torch.Tensor,
        slots_BT: torch.Tensor,
        at_BK: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
    ) -> torch.Tensor:
        self._at_BK = at_BK
        logits: torch.Tensor = self._module(
            input_ids=ids_BT,
            attention_mask=self._mask(slots_BT, keys[0].shape[2]),
            position_ids=self._in_range(slots_BT),
            past_key_values=_Static(keys, values, slots_BT),
            use_cache=True,
        ).logits
        return logits


class _Captured:
    """Stands for an empty cache inside a graph, and keeps what the layers hand it."""

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys.append(key)
        self.values.append(value)
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0


class _Static:
    """Stands for the whole preallocated cache inside a graph: writes at each row's own slots, returns all of them."""

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor], slots_BT: torch.Tensor):
        self.keys, self.values, self.slots_BT = keys, values, slots_BT

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        index_BHTD = self.slots_BT[:, None, :, None].expand(key.shape)
        return self.keys[layer].scatter_(2, index_BHTD, key), self.values[layer].scatter_(2, index_BHTD, value)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def _keep(cache: SlotCache, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    for layer, (key_BHTD, value_BHTD) in enumerate(zip(keys, values, strict=True)):
        cache.keys[layer][:, :, : key_BHTD.shape[2]] = key_BHTD
        cache.values[layer][:, :, : value_BHTD.shape[2]] = value_BHTD


def _require_compiler(device: str) -> None:
    if device != "cpu":
        # Triton compiles its kernels itself, and what launches them with the C compiler.
        if not any(map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "clang", "cc")))):
            raise Unsupported("torch.compile needs a C compiler on a GPU, for Triton; none was found: install gcc")
        return
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        raise Unsupported("torch.compile needs a C++ compiler on a CPU; none was found: install g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise Unsupported("torch.compile needs the headers of Python on a CPU; none were found: install python3-dev")
