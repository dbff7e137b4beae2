"""The two functions that `compile` compiles: prefill without a cache, and a decode step over a whole static KV cache.

Shapes: B rows, T new tokens per row, K requested positions, V vocabulary, H key-value heads, N slots, D head width.
"""

from __future__ import annotations

from typing import Any

import torch

from runtime_matrix.runtimes.engines.head import TracedHead
from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.engines.torch_module import TorchModule

Tensors = list[torch.Tensor]  # one (B, H, N, D) per layer


class Graphs:
    """Prefill and decode step as functions of tensors only, as a compiler requires."""

    def __init__(self, model: TorchModule):
        self._model, self._head = model, TracedHead(model.module)

    def prefill(
        self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, at_BK: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors, Tensors]:
        """Return the logits (B, K, V), and the keys and values (B, H, T, D) of each layer."""
        captured, positions = _Captured(), self._model.in_range(positions_BT)
        self._head.want(at_BK)
        outputs = self._model.module(input_ids=ids_BT, position_ids=positions, past_key_values=captured, use_cache=True)
        self._head.want(None)
        return outputs.logits, captured.keys, captured.values

    def step(
        self, ids_BT: torch.Tensor, slots_BT: torch.Tensor, at_BK: torch.Tensor, keys: Tensors, values: Tensors
    ) -> torch.Tensor:
        """Return the logits (B, K, V); the new keys and values are written into `keys` and `values` at `slots_BT`."""
        self._head.want(at_BK)
        logits_BKV: torch.Tensor = self._model.module(
            input_ids=ids_BT,
            attention_mask=self._model.mask(slots_BT, keys[0].shape[2]),
            position_ids=self._model.in_range(slots_BT),
            past_key_values=_Static(keys, values, slots_BT),
            use_cache=True,
        ).logits
        self._head.want(None)
        return logits_BKV


class _Captured:
    """Acts as an empty transformers cache inside a graph, and collects the keys and values of each layer."""

    def __init__(self) -> None:
        self.keys: Tensors = []
        self.values: Tensors = []

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys.append(key)
        self.values.append(value)
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    # transformers calls this and `get_mask_sizes` to make the causal mask of a prefill.
    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0


class _Static:
    """Acts as the preallocated cache inside a graph: writes to the slots of each row and returns all slots."""

    def __init__(self, keys: Tensors, values: Tensors, slots_BT: torch.Tensor):
        self.keys, self.values, self.slots_BT = keys, values, slots_BT

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        index_BHTD = self.slots_BT[:, None, :, None].expand(key.shape)
        return self.keys[layer].scatter_(2, index_BHTD, key), self.values[layer].scatter_(2, index_BHTD, value)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def keep(cache: SlotCache, keys: Tensors, values: Tensors) -> None:
    """Write the keys and values (B, H, T, D) of a prompt into the first T slots of each layer's buffers."""
    for layer, (key_BHTD, value_BHTD) in enumerate(zip(keys, values, strict=True)):
        cache.keys[layer][:, :, : key_BHTD.shape[2]] = key_BHTD
        cache.values[layer][:, :, : value_BHTD.shape[2]] = value_BHTD
