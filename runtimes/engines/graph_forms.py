"""The two forms in which a `transformers` model becomes one ONNX graph: with a past that grows, or with fixed slots.

Both take ids_BT, positions_BT, at_BK and key.i, value.i a layer, and give logits (B, K, V) and new_key.i, new_value.i.

* `Past`: present = past + new. mask_BTS (B, 1, T, P + T) is true where a slot is seen; key.i is (B, H, P, D) and
  new_key.i (B, H, P + T, D). Rows share the slots. Nothing is read that is not held: the form for a CPU.
* `Static`: key.i is (B, H, N, D) and so is new_key.i, which may lie at the same address: the new tokens are written
  where `positions` says, and slot = position. slots_S, which counts from 0, says how many slots are looked at. Nothing
  held is copied at a step, and no address changes: the form for a GPU.

Shapes: B rows, T new tokens, K wanted positions, H key-value heads, P slots held, N slots, S seen slots, D head width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from typing_extensions import override

from runtime_matrix.runtimes.engines.grouped_attention import use_products

# All sizes of an example differ and exceed one: the exporter takes none for another or for a constant.
_ROWS, _TOKENS, _PAST, _WANTED, _SLOTS = 2, 5, 7, 3, 19


class Form(Protocol):
    """What tells one form from another: its graph, and the version of ONNX that the graph needs."""

    @property
    def opset(self) -> int:
        """The version of ONNX's operators that the graph needs."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that tells graphs of this form from others."""
        ...

    def graph(self, module: Any) -> Graph:
        """Return what is exported of a `transformers` module."""
        ...


class Graph(torch.nn.Module):
    """A module whose inputs and outputs are the graph's; the head is applied to the wanted positions only."""

    def __init__(self, module: Any):
        super().__init__()
        self.module = module
        text = module.config.get_text_config()
        self.layers: int = text.num_hidden_layers
        self.heads: int = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.width: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.max_position: int | None = getattr(text, "max_position_embeddings", None)
        use_products(module)
        self._at: list[torch.Tensor] = []  # in a list, since export forbids assigning tensors to a module
        module.get_output_embeddings().register_forward_pre_hook(self._gather)

    @property
    def held_names(self) -> list[str]:
        """Inputs that hold the past: the keys of all layers, then their values."""
        return [f"{kind}.{layer}" for kind in ("key", "value") for layer in range(self.layers)]

    @abstractmethod
    def example(self) -> Mapping[str, torch.Tensor]:
        """Return the inputs before the held ones, by name."""

    @abstractmethod
    def dynamic(self) -> tuple[Any, ...]:
        """Return which sizes of each input are free."""

    @property
    @abstractmethod
    def held_slots(self) -> int:
        """Slots of the example's keys and values."""

    def held_example(self) -> list[torch.Tensor]:
        """Return zeros (B, H, N, D) for each held input."""
        shape = (_ROWS, self.heads, self.held_slots, self.width)
        return [torch.zeros(shape, dtype=self.module.dtype) for _ in range(2 * self.layers)]

    def run(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, at: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, ...]:
        """Return the logits (B, K, V), then the keys and values of `cache` after the call.

        `ids` and `positions` are (B, T), `mask` (B, 1, T, S) and `at` (B, K).
        """
        self._at = [at]
        logits = self.module(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
        return (logits, *cache.keys, *cache.values)

    def _gather(self, head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (hidden_BTE,) = inputs
        index_BKE = self._at[0][:, :, None].expand(-1, -1, hidden_BTE.shape[-1])
        return (hidden_BTE.gather(1, index_BKE),)


@dataclass(frozen=True)
class Past:
    """Present = past + new; opset 20 has all that it needs."""

    opset: int = 20

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Return what the exported graph depends on."""
        return {"form": "past"}

    def graph(self, module: Any) -> Graph:
        """Return the module to export, with the past as inputs."""
        return _PastGraph(module)


class _PastGraph(Graph):
    held_slots = _PAST

    @override
    def example(self) -> Mapping[str, torch.Tensor]:
        return {
            "ids": torch.ones(_ROWS, _TOKENS, dtype=torch.long),
            "positions": torch.arange(_PAST, _PAST + _TOKENS).expand(_ROWS, -1).contiguous(),
            "mask": torch.ones(_ROWS, 1, _TOKENS, _PAST + _TOKENS, dtype=torch.bool),
            "at": torch.zeros(_ROWS, _WANTED, dtype=torch.long),
        }

    @override
    def dynamic(self) -> tuple[Any, ...]:
        rows, tokens, past, slots, wanted = map(torch.export.Dim, "BTPSK")
        tokens_shape = {0: rows, 1: tokens}
        held = [{0: rows, 2: past} for _ in self.held_names]
        return tokens_shape, tokens_shape, {0: rows, 2: tokens, 3: slots}, {0: rows, 1: wanted}, held

    @override
    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, at: torch.Tensor, held: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        return self.run(ids, positions, mask, at, _Concatenated(held))


class _Concatenated:
    """Stands for transformers' cache inside the graph: present = past + new, a layer at a time."""

    def __init__(self, held: Sequence[torch.Tensor]):
        self.keys, self.values = list(held[: len(held) // 2]), list(held[len(held) // 2 :])

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer] = torch.cat([self.keys[layer], key], dim=2)
        self.values[layer] = torch.cat([self.values[layer], value], dim=2)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


@dataclass(frozen=True)
class Static:
    """`slots` null: any number, of which all are looked at, written by ScatterND, for ONNX Runtime.

    A number: that many, written by TensorScatter. TensorRT runs that in place (and knows no other way), and wants the
    number fixed. ONNX Runtime has kernels on CUDA for the operators of opset 20; of opset 24, which has TensorScatter,
    it leaves some to the CPU.
    """

    slots: int | None = None

    @property
    def opset(self) -> int:
        """Return the lowest ONNX opset that has the form's operators."""
        return 20 if self.slots is None else 24

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Return what the exported graph depends on."""
        return {"form": "static", "slots": self.slots}

    def graph(self, module: Any) -> Graph:
        """Return the module to export, with caches of fixed size."""
        return _StaticGraph(module, self.slots)


class _StaticGraph(Graph):
    def __init__(self, module: Any, slots: int | None):
        super().__init__(module)
        self.slots = slots

    @property
    @override
    def held_slots(self) -> int:
        return self.slots or _SLOTS

    @override
    def example(self) -> Mapping[str, torch.Tensor]:
        seen = min(_PAST + _TOKENS + 1, self.held_slots) if self.slots else self.held_slots
        return {
            "ids": torch.ones(_ROWS, _TOKENS, dtype=torch.long),
            "positions": torch.arange(_PAST, _PAST + _TOKENS).expand(_ROWS, -1).contiguous(),
            "at": torch.zeros(_ROWS, _WANTED, dtype=torch.long),
            "slots": torch.arange(seen),
        }

    @override
    def dynamic(self) -> tuple[Any, ...]:
        rows, tokens, wanted, slots = map(torch.export.Dim, ("B", "T", "K", "S"))
        held = {0: rows} if self.slots else {0: rows, 2: slots}
        tokens_shape = {0: rows, 1: tokens}
        return tokens_shape, tokens_shape, {0: rows, 1: wanted}, {0: slots}, [held for _ in self.held_names]

    @override
    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        at: torch.Tensor,
        slots: torch.Tensor,
        held: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        mask = slots <= positions[:, None, :, None]
        kind = _Scattered if self.slots is None else _Updated
        # Padding may lie beyond the last position that a learned position table has.
        known = positions if self.max_position is None else positions.clamp(max=self.max_position - 1)
        return self.run(ids, known, mask, at, kind(held, positions, slots))


class _Scattered(_Concatenated):
    """Writes the new tokens into the slots that they have."""

    def __init__(self, held: Sequence[torch.Tensor], positions_BT: torch.Tensor, slots_S: torch.Tensor):
        super().__init__(held)
        self.positions_BT, self.seen = positions_BT, slots_S.shape[0]

    @override
    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer] = self.written(self.keys[layer], key)
        self.values[layer] = self.written(self.values[layer], value)
        return self.looked_at(self.keys[layer]), self.looked_at(self.values[layer])

    def written(self, held_BHND: torch.Tensor, new_BHTD: torch.Tensor) -> torch.Tensor:
        rows, heads = (torch.arange(size) for size in new_BHTD.shape[:2])
        index = (rows[:, None, None], heads[None, :, None], self.positions_BT[:, None, :])
        return held_BHND.index_put(index, new_BHTD)

    def looked_at(self, held_BHND: torch.Tensor) -> torch.Tensor:
        return held_BHND  # whoever calls gives as many slots as are to be seen


class _Updated(_Scattered):
    """The same by the operator that is made for it; a token's slots follow each other."""

    @override
    def written(self, held_BHND: torch.Tensor, new_BHTD: torch.Tensor) -> torch.Tensor:
        inputs = (held_BHND, new_BHTD, self.positions_BT[:, 0])
        return torch.onnx.ops.symbolic(
            "TensorScatter", inputs, {"axis": 2}, dtype=held_BHND.dtype, shape=held_BHND.shape, version=24
        )

    @override
    def looked_at(self, held_BHND: torch.Tensor) -> torch.Tensor:
        return held_BHND[:, :, : self.seen]
