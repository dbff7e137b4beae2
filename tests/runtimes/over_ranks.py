"""A small random Llama over two ranks, for the tests of tensor parallelism.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.placements.mirrored import Mirrored
from runtime_matrix.runtimes.placements.tensor_parallel import TensorParallel
from runtime_matrix.runtimes.weights.full import Full

LLAMA = {
    "model_type": "llama",
    "vocab_size": 127,  # odd numbers: the last rank's part is smaller
    "hidden_size": 32,
    "intermediate_size": 65,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 65536,
}
IDS_BT = torch.randint(3, 120, (2, 8), generator=torch.Generator().manual_seed(1))


def spread(timeout_s: float = 120, weights: Full | None = None) -> Mirrored:
    placement = TensorParallel(2, timeout_s=timeout_s)
    runtime = placement.spread(Eager(weights=weights, placement=placement))
    assert isinstance(runtime, Mirrored)
    return runtime


def loaded(runtime: Any, artifacts: Path, **changed: object) -> Any:
    source = ModelSource(f"ranks {sorted(changed.items())}", None, LLAMA | changed)
    runtime.traits = runtime.load(source, Hardware("cpu", 2, artifacts), lambda name: nullcontext())
    return runtime


def logits(runtime: Any) -> torch.Tensor:
    """Return those of a whole forward and of a step behind rows of different lengths."""
    at_BT = torch.arange(8).expand(2, 8).contiguous()
    whole = runtime.forward(IDS_BT, [8, 8], None, at_BT).logits_BKV
    cache = runtime.new_cache(2, 16)
    runtime.forward(IDS_BT[:, :5].contiguous(), [5, 3], cache)
    step = runtime.forward(IDS_BT[:, 5:6].contiguous(), [1, 1], cache).logits_BKV
    found: torch.Tensor = torch.cat([whole, step], dim=1)
    return found
