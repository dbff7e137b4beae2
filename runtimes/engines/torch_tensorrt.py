"""torch-tensorrt as a backend of `torch.compile`: supported subgraphs become TensorRT engines, torch runs the rest.

Written from its documentation. It has not run yet, because TensorRT's libraries were not available.
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

_CACHE_BYTES = 64 << 30  # limit of the engine cache; the default of 5 GB is too small for one large model


class TorchTensorRT(Chosen):
    """The engine `compile` with another backend and without modes: the same static cache and shape buckets.

    `load` raises Unsupported if TensorRT runs no part of the model, since timings would then be torch's.
    """

    weight_forms = Compiled.weight_forms
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"merged"})

    def __init__(self, dtype: str = "float16", batch_buckets: Sequence[int] = (1, 8), weights: Weights | None = None):
        self._engine = Compiled(
            dtype, mode="default", batch_buckets=batch_buckets, weights=weights, compile_graph=by_tensorrt
        )
        self._counted = (-1, 0)  # number of compiled graphs at the last count of engines; number of engines

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
                "torch-tensorrt converted no part of the model, so torch would run all of it: use runtime=compile, or "
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
    """Return the compiled graph; engines are built at the first call for each shape. `mode` has no effect."""
    compiled: Callable[..., Any] = torch.compile(
        graph,
        fullgraph=True,
        dynamic=False,
        backend="torch_tensorrt",
        options={
            # torch-tensorrt caches only engines whose weights are refittable.
            "immutable_weights": False,
            "cache_built_engines": True,
            "reuse_cached_engines": True,
            "engine_cache_dir": str((hw.artifacts / "torch_tensorrt").resolve()),
            "engine_cache_size": _CACHE_BYTES,
            # The default treats each mask as causal without a past: a decode step would see one slot only.
            "attn_bias_is_causal": False,
            "disable_tf32": True,  # float32 is computed in float32
            "pass_through_build_failures": True,  # by default torch silently runs subgraphs that TensorRT cannot build
        },
    )
    return compiled


def _living_engines() -> int:
    """Return the number of live torch-tensorrt modules; each runs one engine as a part of a compiled graph."""
    return sum(type(instance).__name__.endswith("TorchTensorRTModule") for instance in gc.get_objects())
