"""torch-tensorrt under `torch.compile`: the subgraphs that it takes become TensorRT engines, the rest stays torch's.

Written against its documentation; TensorRT's libraries were not within reach, so it has not run yet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines.chosen import Chosen
from runtime_matrix.runtimes.engines.compiled import Compiled

_CACHE_BYTES = 64 << 30  # of built engines; its default of 5 GB does not hold those of one large model


class TorchTensorRT(Chosen):
    """`compile` with another compiler and without its modes: the same static cache and shape buckets.

    Unsupported where TensorRT takes no part of the model: what would be timed is not TensorRT then.
    """

    weight_forms = Compiled.weight_forms

    def __init__(self, dtype: str = "float16", batch_buckets: Sequence[int] = (1, 8), weights: Weights | None = None):
        self._engine = Compiled(
            dtype, mode="default", batch_buckets=batch_buckets, weights=weights, compile_graph=by_tensorrt
        )
        self._counted = (-1, 0)  # graphs that were compiled when engines were counted, and engines

    @override
    def check(self, hw: Hardware) -> None:
        self._loaded.check(hw)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = self._loaded.load(model, hw, phase, calibration_ids)
        with phase("build"):
            rows, tokens = traits.buckets.pad_batch(1), traits.buckets.pad_tokens(1)
            cache = self.new_cache(rows, tokens + 1)
            self.forward(torch.zeros((rows, tokens), dtype=torch.long), [1] * rows, cache)
            self.forward(torch.zeros((rows, 1), dtype=torch.long), [1] * rows, cache)
        if not self.counters()["tensorrt_engines"]:
            raise Unsupported(
                "torch-tensorrt took no part of the model, which torch alone would run: use runtime=compile, or "
                "runtime.engine.backend=tensorrt"
            )
        return replace(traits, build_phases=traits.build_phases | {"build"})

    @override
    def counters(self) -> dict[str, int]:
        counts = self._loaded.counters()
        if self._counted[0] != counts["compiled_graphs"]:
            self._counted = (counts["compiled_graphs"], _living_engines())
        return counts | {"tensorrt_engines": self._counted[1]}


def by_tensorrt(graph: Callable[..., Any], mode: str, hw: Hardware) -> Callable[..., Any]:
    """Return the graph, of which torch-tensorrt builds engines at the first call for each shape; it has no modes."""
    compiled: Callable[..., Any] = torch.compile(
        graph,
        fullgraph=True,
        dynamic=False,
        backend="torch_tensorrt",
        options={
            # Built engines are found again only where their weights may be exchanged.
            "immutable_weights": False,
            "cache_built_engines": True,
            "reuse_cached_engines": True,
            "engine_cache_dir": str((hw.artifacts / "torch_tensorrt").resolve()),
            "engine_cache_size": _CACHE_BYTES,
            # By default each mask is taken for a causal one of a square: a step behind a cache would see one slot.
            "attn_bias_is_causal": False,
            "disable_tf32": True,  # float32 means float32 here
            "pass_through_build_failures": True,  # by default torch runs in silence what TensorRT cannot build
        },
    )
    return compiled


def _living_engines() -> int:
    """Return how many of torch-tensorrt's modules are alive; each runs one engine, as a part of a compiled graph."""
    return sum(type(thing).__name__.endswith("TorchTensorRTModule") for thing in gc.get_objects())
