"""torch-tensorrt under `torch.compile`: the subgraphs that it takes become TensorRT engines, the rest stays torch's.

Written against its documentation; TensorRT's libraries were not within reach, so it has not run yet.
"""

from __future__ import annotations

from typing import Any

from runtimes.base import Hardware
from runtimes.engines.compiled import Compiled


class TorchTensorRT(Compiled):
    """The same static cache and shape buckets as `compile`, with another backend."""

    def _compile_options(self, hw: Hardware) -> dict[str, Any]:
        cache = {
            # Built engines are found again only where their weights may be exchanged.
            "immutable_weights": False,
            "cache_built_engines": True,
            "reuse_cached_engines": True,
            "engine_cache_dir": str((hw.artifacts / "torch_tensorrt").resolve()),
        }
        return {"backend": "torch_tensorrt", "dynamic": False, "options": cache}
