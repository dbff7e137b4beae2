"""A model whose matrices are distributed over the ranks of torch.distributed's group, by transformers' own plan.

Each rank reads its part of the files. The plan of an architecture names the matrices and how they are cut; attention is
cut by heads.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from runtime_matrix.runtimes.base import ModelSource, Unsupported
from runtime_matrix.runtimes.gguf_header import is_gguf
from runtime_matrix.runtimes.ranks import Rank

_OLDEST = "5.23"  # transformers' interface changed often before


def options(ranks: int) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that distribute a model over `ranks` ranks; empty for one rank."""
    if ranks == 1:
        return {}
    from transformers.distributed.configuration_utils import DistributedConfig

    return {"distributed_config": DistributedConfig(tp_size=ranks)}


def check_model(model: ModelSource, ranks: int) -> None:
    """Raise Unsupported if the model cannot be distributed over so many ranks. Reads its configuration alone."""
    from runtime_matrix.runtimes.weights import full

    if model.adapter is not None:
        raise Unsupported("an adapter is not distributed over ranks: use runtime/placement=device")
    if model.folder is not None and is_gguf(model.folder):
        raise Unsupported("a GGUF file is not distributed over ranks: use the original model")
    if model.stored_method is not None:
        raise Unsupported(f"weights stored by {model.stored_method} are not distributed over ranks: use full weights")
    config = full.config_of(model.folder) if model.folder is not None else full.random_config(model.architecture or {})
    text = config.get_text_config()
    plan = getattr(text, "base_model_tp_plan", None)
    if not plan:
        raise Unsupported(f"transformers has no plan to distribute a {config.model_type}: use runtime/placement=device")
    for name in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(text, name, None)
        if heads is not None and _on_each_rank(plan, heads, ranks) is None:
            fitting = [str(count) for count in range(2, heads + 1) if heads % count == 0]
            remedy = f"runtime.placement.ranks={' or '.join(fitting)}" if fitting else "use runtime/placement=device"
            raise Unsupported(f"the model has {name}={heads}, which {ranks} ranks cannot share evenly: {remedy}")


def key_value_heads(module: Any, ranks: int) -> int | None:
    """Return the key-value heads that each rank computes; None for a model that is not distributed."""
    if ranks == 1:
        return None
    text = module.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return _on_each_rank(module.tp_plan, heads, ranks)


def _on_each_rank(plan: dict[str, str], heads: int, ranks: int) -> int | None:
    try:
        from transformers.distributed.tensor_parallel import get_kv_heads_per_rank
    except ImportError as error:
        found = importlib.metadata.version("transformers")
        raise Unsupported(f"transformers {found} is too old: pip install 'transformers>={_OLDEST}'") from error
    count = get_kv_heads_per_rank(plan, heads, ranks)
    return count if isinstance(count, int) else None


def rank_of(module: Any, device: str, weight_bytes: int) -> Rank:
    """Return what this rank holds of a distributed module."""
    import torch
    from torch.distributed.tensor import DTensor

    parts = [part.to_local() for part in module.parameters() if isinstance(part, DTensor)]
    copies = [part for part in module.parameters() if not isinstance(part, DTensor)]
    copied = sum(part.numel() for part in copies)
    is_on_gpu = device == "cuda"
    return Rank(
        process=os.getpid(),
        device=f"cuda:{torch.cuda.current_device()}" if is_on_gpu else device,
        parameters=sum(part.numel() for part in parts) + copied,
        copied_parameters=copied,
        weight_bytes=weight_bytes,
        peak_device_bytes=torch.cuda.max_memory_allocated() if is_on_gpu else None,
    )
