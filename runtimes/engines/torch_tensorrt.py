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
from runtime_matrix.runtimes.engines.compiled import Compiled

_CACHE_BYTES = 64 << 30  # of built engines; its default of 5 GB does not hold those of one large model


class TorchTensorRT(Compiled):
    """The same static cache and shape buckets as `compile`, with another backend and without its modes.

    Unsupported where TensorRT takes no part of the model: what would be timed is not TensorRT then.
    """

    def __init__(self, dtype: str = "float16", batch_buckets: Sequence[int] = (1, 8), weights: Weights | None = None):
        super().__init__(dtype, mode="default", batch_buckets=batch_buckets, weights=weights)
        self._engines = (-1, 0)  # graphs that were compiled when engines were counted, and engines

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
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
        counts = super().counters()
        if self._engines[0] != counts["compiled_graphs"]:
            self._engines = (counts["compiled_graphs"], _living_engines())
        return counts | {"tensorrt_engines": self._engines[1]}

    @override
    def _compile(self, graph: Callable[..., Any], mode: str) -> Any:
        return torch.compile(
            graph,
            fullgraph=True,
            dynamic=False,
            backend="torch_tensorrt",
            options={
                # Built engines are found again only where their weights may be exchanged.
                "immutable_weights": False,
                "cache_built_engines": True,
                "reuse_cached_engines": True,
                "engine_cache_dir": str((self._artifacts / "torch_tensorrt").resolve()),
                "engine_cache_size": _CACHE_BYTES,
                # By default each mask is taken for a causal one of a square: a step behind a cache would see one slot.
                "attn_bias_is_causal": False,
                "disable_tf32": True,  # float32 means float32 here
                "pass_through_build_failures": True,  # by default torch runs in silence what TensorRT cannot build
            },
        )


def _living_engines() -> int:
    """Return how many of torch-tensorrt's modules are alive; each runs one engine, as a part of a compiled graph."""
    return sum(type(thing).__name__.endswith("TorchTensorRTModule") for thing in gc.get_objects())
