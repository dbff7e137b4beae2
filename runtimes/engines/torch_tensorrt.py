"""torch-tensorrt under `torch.compile`: the subgraphs that it takes become TensorRT engines, the rest stays torch's.

Written against its documentation; TensorRT's libraries were not within reach, so it has not run yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.engines.compiled import Compiled


class TorchTensorRT(Compiled):
    """The same static cache, shape buckets and modes as `compile`, with another backend."""

    @override
    def _compile(self, graph: Callable[..., Any], mode: str) -> Any:
        cache: dict[str, Any] = {
            # Built engines are found again only where their weights may be exchanged.
            "immutable_weights": False,
            "cache_built_engines": True,
            "reuse_cached_engines": True,
            "engine_cache_dir": str((self._artifacts / "torch_tensorrt").resolve()),
        }
        return torch.compile(graph, fullgraph=True, dynamic=False, backend="torch_tensorrt", options=cache)
