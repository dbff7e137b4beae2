"""`torch.compile`: a compiled prefill with shape buckets, and a compiled decode step over a static KV cache.

Shapes: B rows, T new tokens per row, K requested positions, V vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    LOGITS,
    Buckets,
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
from runtime_matrix.runtimes.engines import torch_profile
from runtime_matrix.runtimes.engines.compiled_graphs import Graphs, keep
from runtime_matrix.runtimes.engines.cuda_graph import CachePool, CapturedStep, Step, fastest
from runtime_matrix.runtimes.engines.inductor import by_inductor, require_compiler
from runtime_matrix.runtimes.engines.plan import ForwardPlan
from runtime_matrix.runtimes.engines.positions import is_step, last_positions
from runtime_matrix.runtimes.engines.slots import SlotCache, Span, round_up
from runtime_matrix.runtimes.engines.torch_module import TorchLoader, TorchModule
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.transfer import to_device
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all

# (function of tensors, mode, hardware) -> compiled function. Compilation may happen at the first call.
CompileGraph = Callable[[Callable[..., Any], str, Hardware], Callable[..., Any]]

# torch.compile's modes, and two more. cuda_graph: the default mode, whose step is captured as a CUDA graph here.
# auto: the faster of cuda_graph and reduce-overhead on this GPU.
_MODES = ("auto", "cuda_graph", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_WITH_GRAPHS = ("auto", "cuda_graph", "reduce-overhead", "max-autotune")
_CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
_BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32)}
_COMPILER = ("torch._dynamo", "torch._inductor.compile_fx", "torch._functorch.partitioners")
# Slot counts are rounded up because each size needs its own graph. The steps are small because each decode step
# reads all slots.
_SMALLEST_CACHE, _SLOTS = 128, 256


class Compiled(Runtime):
    """A model compiled by `compile_graph`, which receives `mode`: one function for prefill and one for decode steps.

    The number of rows is padded to `batch_buckets` and the tokens per row to `token_buckets`; each pair of sizes has
    its own graph. Raises Unsupported for an unknown mode.
    """

    weight_forms = frozenset({"dense", "packed"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"beside", "merged"})

    def __init__(
        self,
        dtype: str = "float32",
        attention: str = "sdpa",
        mode: str = "auto",
        batch_buckets: Sequence[int] | None = None,
        token_buckets: Sequence[int] = (64, 256, 512),
        weights: Weights | None = None,
        compile_graph: CompileGraph = by_inductor,
    ):
        if mode not in _MODES:
            raise Unsupported(f"runtime.engine.mode={mode} is unknown: use {', '.join(_MODES)}")
        self._loader = TorchLoader(dtype, attention, weights or full.Full())
        self._mode, self._compile_graph = mode, compile_graph
        self._batch_buckets, self._token_buckets = batch_buckets, tuple(token_buckets)
        self._loaded: TorchModule | None = None
        self._prefill: Any = None
        self._step: Step | None = None
        self._shapes: set[tuple[object, ...]] = set()
        self._pool: CachePool | None = None
        self._tried = 0  # graphs that were compiled for comparison and discarded as slower

    @override
    def check(self, hw: Hardware) -> None:
        require_compiler(hw.device)
        self._loader.check(hw)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        with phase("import"):
            import_all(_COMPILER)
        _prepare_compiler(hw)
        self._loaded = loaded = self._loader.load(model, hw, phase, calibration_ids)
        graphs = Graphs(loaded)
        self._prefill = self._compile_graph(graphs.prefill, self._mode, hw)
        notes = loaded.traits.notes
        if self._mode in _WITH_GRAPHS and hw.device == "cuda":
            self._pool = CachePool(loaded.new_cache)
            notes += (f"mode {self._mode}: CUDA graphs over pooled caches",)
        elif self._mode in _WITH_GRAPHS and self._mode != "auto":
            notes += (f"mode {self._mode} has CUDA graphs on a GPU only: none were used",)
        self._step = step = self._compile_graph(graphs.step, self._mode, hw)
        if self._mode == "cuda_graph" and self._pool is not None:
            self._step = CapturedStep(step)
        elif self._mode == "auto" and self._pool is not None:
            with phase("try"):
                notes += (self._choose_step(step, self._compile_graph(graphs.step, "reduce-overhead", hw)),)
        sizes = Buckets(tuple(self._batch_buckets or _BATCHES[hw.device]), self._token_buckets)
        buckets = sizes.limited(model.max_tokens)
        return replace(loaded.traits, notes=notes, buckets=buckets, max_batch=max(buckets.batch))

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        slots = _SMALLEST_CACHE if capacity <= _SMALLEST_CACHE else round_up(capacity, _SLOTS)
        return self._model.new_cache(rows, slots) if self._pool is None else self._pool.take(rows, slots)

    @torch.inference_mode()
    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: SlotCache | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        model, tokens = self._model, ids_BT.shape[1]
        check_outputs(outputs, model.traits)
        span = Span.behind(cache, len(lengths), tokens, model.device)
        if is_step(tokens, at_BK):
            at_BK = model.first_B1(len(lengths))
        else:
            at_BK = to_device(at_BK if at_BK is not None else last_positions(lengths), model.device)
        plan = ForwardPlan(to_device(ids_BT, model.device), span, at_BK, cache)
        logits_BKV = self._run(plan)
        if cache is not None:
            cache.advance(lengths)
        return Outputs(logits_BKV.float())

    @override
    def synchronize(self) -> None:
        self._model.synchronize()

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
    def profile(self, work: Callable[[], None]) -> Sequence[Operation]:
        return torch_profile.profiled(work, self._model.device)

    @override
    def close(self) -> None:
        device = self._loaded.device if self._loaded is not None else "cpu"
        self._loaded = self._prefill = self._step = self._pool = None
        if device == "cuda":
            torch.cuda.empty_cache()

    @property
    def _model(self) -> TorchModule:
        assert self._loaded is not None
        return self._loaded

    def _choose_step(self, plain: Step, with_torch_graphs: Step) -> str:
        """Time two CUDA-graph variants of the step with one row, keep the faster, and return a note with the times."""
        steps: dict[str, Step] = {"a captured CUDA graph": CapturedStep(plain), "reduce-overhead": with_torch_graphs}
        cache = self.new_cache(1, _SMALLEST_CACHE)
        name, seconds = fastest({name: partial(self._try_step, step, cache) for name, step in steps.items()})
        self._step, self._tried = steps[name], len(steps) - 1
        return f"mode auto: {name}; " + ", ".join(
            f"{variant}: {1e3 * s:.3f} ms per step" for variant, s in seconds.items()
        )

    def _try_step(self, step: Step, cache: SlotCache) -> None:
        self._step, cache.row_lengths = step, [1]
        self.forward(torch.zeros((1, 1), dtype=torch.long), [1], cache)

    def _run(self, plan: ForwardPlan) -> torch.Tensor:
        """Return the logits (B, K, V) in the module's dtype."""
        ids_BT, positions_BT, at_BK, cache = plan.ids_BT, plan.span.positions_BT, plan.at_BK, plan.cache
        # K is 1 except in scoring, where it varies. A dynamic dimension avoids a recompilation for each K.
        is_scoring = at_BK.shape[1] > 1
        if is_scoring:
            torch._dynamo.mark_dynamic(at_BK, 1)
        rows, tokens = ids_BT.shape
        if cache is None or plan.span.extent == tokens:  # the cache is empty
            self._shapes.add(("prefill", rows, tokens, is_scoring))
            logits_BKV, keys, values = self._prefill(ids_BT, positions_BT, at_BK)
            if cache is not None:
                keep(cache, keys, values)
            return self._own(logits_BKV)
        self._shapes.add(("step", rows, tokens, is_scoring, cache.slots))
        assert self._step is not None
        return self._own(self._step(ids_BT, positions_BT, at_BK, cache.keys, cache.values))

    def _own(self, logits_BKV: torch.Tensor) -> torch.Tensor:
        """Return logits that the next call does not overwrite: a CUDA graph writes its output to the same memory."""
        return logits_BKV if self._pool is None else logits_BKV.clone()


def _prepare_compiler(hw: Hardware) -> None:
    """Put Inductor's cache into the artifacts folder, allow one graph per shape, and reset the counters."""
    import torch._dynamo as dynamo
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(_CACHE_DIR, default_cache_dir()) == default_cache_dir():  # torch itself may have set the default
        os.environ[_CACHE_DIR] = str((hw.artifacts / "inductor").resolve())
    dynamo.config.recompile_limit = 64  # one graph per shape is intended; `counters` reports further ones as recompiles
    dynamo.config.accumulated_recompile_limit = 512
    # Dynamo stores compiled code per function, and all runtimes of a process share the functions of this module.
    # Without a reset, graphs of an earlier runtime count towards the recompile limit, and each call checks
    # their guards first.
    dynamo.reset()
    dynamo.utils.counters.clear()
