"""Check what a runtime declares of its weights, against the model's number of weights and against memory.

A declaration that the number rules out is an error, because figures are derived from it. A doubt from memory is only a
note, because processes reuse memory and libraries keep copies.
"""

from __future__ import annotations

import sys
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.records.schema import HeldWeights
from runtime_matrix.runtimes.base import Traits

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_TOLERANCE = 0.05  # for buffers and the constants of a graph
_PACKED_TOLERANCE = 0.10  # for scales and zero points of weights that are stored in full size
_SLACK_BYTES = 64 << 10  # the same for a tiny model
_FEWEST_BITS = 1  # per packed weight
_NOISE_BYTES = 32 << 20  # memory that a process may free or reuse while it loads


def wrong_declaration(traits: Traits, held: HeldWeights, parameters: int | None) -> str | None:
    """Return in one line why the declared bytes or dtype cannot be true; None if they can, or if it is unknown.

    A dense weight takes the size of its dtype, a packed one between one bit and that size. If a part of the model is
    elsewhere, only the upper bound applies. Ranks hold copies of some weights, which take memory again.
    """
    size, declared = _BYTES.get(traits.dtype), traits.weight_bytes
    if traits.is_scripted or declared is None or parameters is None:
        return None
    parameters += sum(rank.copied_parameters for rank in traits.ranks[1:])
    if size is None:
        return f"the runtime declares the dtype {traits.dtype!r}; known: {', '.join(_BYTES)}"
    whole = size * parameters
    most = whole * (1 + (_TOLERANCE if held.is_dense else _PACKED_TOLERANCE)) + _SLACK_BYTES
    least = 0.0 if not held.is_whole else whole * (1 - _TOLERANCE) if held.is_dense else parameters * _FEWEST_BITS / 8
    if least <= declared <= most:
        return None
    kind = traits.dtype if held.is_dense else f"packed {traits.dtype}"
    bound = f"{whole / 2**20:.1f}" if held.is_dense else f"{least / 2**20:.1f} to {most / 2**20:.1f}"
    return f"the runtime declares {declared / 2**20:.1f} MiB of {kind} weights; the model has {bound}"


def doubt(declared: int | None, gained_bytes: int | None, mapped_bytes: int) -> str | None:
    """Return a note if loading added less memory, on host and device, than the declared bytes; else None.

    Mapped files count in full, because they may hold weights that were not read yet.
    """
    if declared is None or gained_bytes is None or declared <= gained_bytes + mapped_bytes + _NOISE_BYTES:
        return None
    return (
        f"the runtime declares {declared / 2**20:.0f} MiB of weights, but loading took {gained_bytes / 2**20:.0f} MiB"
    )


def parameters_of(cell: Cell, declared: int | None = None, dtype: str = "float32") -> int | None:
    """Return the model's number of weights, tied ones counted once; None if it is unknown.

    It is read from the headers of the files, which needs no memory. Files may hold weights that a causal language model
    does not use: if `declared` bytes do not match, the model is built on torch's meta device and counted.
    """
    if cell.facts.parameters is not None:
        return cell.facts.parameters
    if cell.facts.quantized is not None:
        return None
    stored = models.stored_parameters(cell.source.folder) if cell.source.folder is not None else None
    size = _BYTES.get(dtype)
    if stored is not None and (declared is None or size is None or abs(declared / size / stored - 1) <= _TOLERANCE):
        return stored
    # Importing transformers here would raise the memory peaks that are measured next.
    return _built(cell) if stored is not None or "transformers" in sys.modules else None


def _built(cell: Cell) -> int | None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder, architecture = cell.source.folder, dict(cell.source.architecture or {})
    try:
        config: Any = (
            AutoConfig.from_pretrained(folder)
            if folder is not None
            else AutoConfig.for_model(architecture.pop("model_type"), **architecture)
        )
        with torch.device("meta"):
            module = AutoModelForCausalLM.from_config(config)
    except Exception:  # transformers cannot build the model, but the runtime did
        return None
    return int(sum(weight.numel() for weight in module.parameters()))
