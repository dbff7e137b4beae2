"""The tensors of a Llama under GGUF's names, in ggml's order and types.

Shapes: H heads, D head width, I inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from runtime_matrix.runtimes.base import Unsupported

_OUTPUT_TYPE = "Q8_0"  # of the output layer in files with fewer bits; llama.cpp's own tool uses Q6_K there


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file; its values are converted when they are written."""

    name: str
    type: str  # ggml's name, such as F32 or Q4_0
    values: torch.Tensor
    heads: int | None = None  # of the query and key projections, whose rows are reordered

    def declare(self, writer: Any) -> None:
        """Add name, shape and type to the writer. Raises Unsupported if the rows do not divide into blocks."""
        import numpy as np
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        kind = GGMLQuantizationType[self.type]
        block, size = GGML_QUANT_SIZES[kind]
        if self.values.shape[-1] % block:
            raise Unsupported(
                f"{self.type} has blocks of {block} weights, and the rows of {self.name} have {self.values.shape[-1]}: "
                "use runtime/weights=full"
            )
        bytes_of_all = self.values.numel() // block * size
        writer.add_tensor_info(self.name, list(self.values.shape), np.dtype(np.float32), bytes_of_all, kind)

    def converted(self) -> Any:
        """Return the values as a NumPy array in their type."""
        from gguf import GGMLQuantizationType, quantize

        values = self.values.float()
        if self.heads is not None:
            values = interleaved(values, self.heads)
        return quantize(values.contiguous().numpy(), GGMLQuantizationType[self.type])


def interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the rows (H × D, I), or a bias (H × D), with the two halves of each head interleaved.

    `transformers` rotates element i of a head with i + D/2, and ggml rotates neighbours.
    """
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def tensors(module: Any, tensor_type: str) -> list[Tensor]:
    """Return the tensors of a `transformers` Llama. Raises Unsupported for one that GGUF's Llama does not have."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = module.config
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    is_tied = bool(config.tie_word_embeddings)
    output = "token_embd.weight" if is_tied else "output.weight"
    found = []
    for stored, values in module.state_dict().items():
        name = names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise Unsupported(f"GGUF's Llama has no tensor for {stored}: use another runtime")
        if name == "output.weight" and is_tied:
            continue
        kind = "F32" if values.ndim == 1 else tensor_type
        if name == output and kind.startswith("Q"):
            kind = _OUTPUT_TYPE
        found.append(Tensor(name, kind, values, _heads(stored, config)))
    factors = frequency_factors(config)
    return [*found, *([Tensor("rope_freqs.weight", "F32", factors)] if factors is not None else [])]


def _heads(stored: str, config: Any) -> int | None:
    """Return the number of heads of a projection that rope rotates; None for other tensors."""
    if "self_attn.q_proj" in stored:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if "self_attn.k_proj" in stored else None


def frequency_factors(config: Any) -> torch.Tensor | None:
    """Return (D/2,): by what scaled rope divides each frequency. None: frequencies are not scaled."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = config.rope_parameters or {}
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    scaled, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    if attention_factor != 1.0:
        raise Unsupported(f"rope scaling of the type {kind} also scales attention, which is not written")
    exponents = torch.arange(len(scaled), dtype=torch.float64) / len(scaled)
    unscaled = torch.pow(rope["rope_theta"], -exponents)
    return (unscaled / scaled.double()).float()
