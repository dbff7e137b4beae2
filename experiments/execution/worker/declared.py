"""Can what a runtime declares of its weights be true? By the model's own count of weights, and by what is held.

A declaration that the count rules out is an error: every figure that is derived from it would be false. What memory
says is a note: a process reuses what it held before, and libraries keep copies of their own.
"""

from __future__ import annotations

import sys
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.records.schema import HeldWeights
from runtime_matrix.runtimes.base import Traits

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_TOLERANCE = 0.05  # buffers; a graph's constants
_PACKED_TOLERANCE = 0.10  # scales and zero points of weights that are otherwise as large as they were
_SLACK_BYTES = 64 << 10  # the same of a model that has hardly any weights
_FEWEST_BITS = 1  # a packed weight takes at least
_NOISE_BYTES = 32 << 20  # a process's memory may shrink by this beside what it loads: what was free is used again


def wrong_declaration(traits: Traits, held: HeldWeights, parameters: int | None) -> str | None:
    """Return in one line why the declared bytes or dtype cannot be true; None where they can, or nobody can say.

    Dense weights take their dtype's size each. Packed ones lie between one bit and that size. Of a model that is partly
    elsewhere only the upper bound is known.
    """
    size, declared = _BYTES.get(traits.dtype), traits.weight_bytes
    if traits.is_scripted or declared is None or parameters is None:
        return None
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
    """Return a note where the processes and the device gained less by loading than is declared to lie in memory.

    Mapped files count whole: weights that were not read yet are there too.
    """
    if declared is None or gained_bytes is None or declared <= gained_bytes + mapped_bytes + _NOISE_BYTES:
        return None
    return f"{declared / 2**20:.0f} MiB of weights are declared, and loading took {gained_bytes / 2**20:.0f} MiB"


def parameters_of(cell: Cell, declared: int | None = None, dtype: str = "float32") -> int | None:
    """Return the model's own number of weights, tied ones once; None where its files do not tell.

    The headers of its files are read first, which costs no memory. A file may hold more than a causal language model
    takes over: where `declared` does not fit, the model is built without memory and counted.
    """
    if cell.facts.quantized is not None:
        return None
    stored = models.stored_parameters(cell.source.folder) if cell.source.folder is not None else None
    size = _BYTES.get(dtype)
    if stored is not None and (declared is None or size is None or abs(declared / size / stored - 1) <= _TOLERANCE):
        return stored
    # Importing it would show in the peaks that are measured next: only where loading did so anyway.
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
    except Exception:  # a model that transformers cannot build; its runtime could
        return None
    return int(sum(weight.numel() for weight in module.parameters()))
