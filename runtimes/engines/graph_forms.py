"""The forms in which a `transformers` model is exported as one ONNX graph: growing past, fixed slots, or no cache.

Inputs of the first two: ids_BT, positions_BT, at_BK, and key.i and value.i for layer i. Outputs: logits (B, K, V), and
new_key.i and new_value.i.

* `Past`: present = past + new. mask_BTS (B, 1, T, P + T) is true where a token attends to a slot; key.i is (B, H, P, D)
  and new_key.i (B, H, P + T, D). All rows use the same slot indices. No unused slots are read: the form for a CPU.
  window_mask_BTS is the mask of layers with a sliding window; each of the two masks is an input if a layer needs it.
* `Static`: key.i and new_key.i are both (B, H, N, D) and may share an address. New tokens are written at `positions`,
  since slot = position. slots_S is arange(S): attention covers the first S slots. A step copies no cached keys or
  values and changes no address: the form for a GPU.
* `Observed`, in `observed_form.py`: no keys and values, and all outputs of `base.Outputs`.

Shapes: B rows, T new tokens per row, K requested positions, H key-value heads, P slots of the past, N slots, S visible
slots, D head width, E hidden width, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from typing_extensions import override

from runtime_matrix.runtimes.engines.grouped_attention import use_products
from runtime_matrix.runtimes.engines.masks import Masks, by_type, causal
from runtime_matrix.runtimes.windows import Windows

MASK, WINDOW_MASK = "mask", "window_mask"  # inputs of the form `Past`

# All sizes of the example inputs differ and exceed 1, so that the exporter does not merge two dimensions or take one
# for a constant.
_ROWS, _TOKENS, _PAST, _WANTED, _SLOTS = 2, 5, 7, 3, 19


class Form(Protocol):
    """A form of exported graph, with the ONNX opset that it needs."""

    @property
    def opset(self) -> int:
        """Version of the ONNX operator set that the graph needs."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that distinguishes graphs of this form from others; part of the artifact key."""
        ...

    def graph(self, module: Any) -> Graph:
        """Return the module to export, which wraps a `transformers` module."""
        ...


class Graph(torch.nn.Module):
    """A module whose inputs and outputs are those of the graph; the head is applied only at the requested positions."""

    def __init__(self, module: Any):
        super().__init__()
        self.module = module
        text = module.config.get_text_config()
        self.layers: int = text.num_hidden_layers
        self.heads: int = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.width: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.max_position: int | None = getattr(text, "max_position_embeddings", None)
        self.windows = Windows.of(module)
        use_products(module)
        self._at: list[torch.Tensor] = []  # in a list, since export forbids assigning tensors to a module
        module.get_output_embeddings().register_forward_pre_hook(self._gather)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return ["logits", *(f"new_{name}" for name in self.held_names)]

    @property
    def held_names(self) -> list[str]:
        """Names of the cache inputs: the keys of all layers, then the values of all layers."""
        return [f"{kind}.{layer}" for kind in ("key", "value") for layer in range(self.layers)]

    @abstractmethod
    def example(self) -> Mapping[str, torch.Tensor]:
        """Return example inputs by name, without the cache inputs, which follow them."""

    @abstractmethod
    def dynamic(self) -> tuple[Any, ...]:
        """Return the dynamic dimensions of each input, as `torch.onnx.export` takes them."""

    @property
    @abstractmethod
    def held_slots(self) -> int:
        """Number of slots of the example's keys and values."""

    def arguments(self) -> tuple[Any, ...]:
        """Return the example inputs in the order of `forward`: by position, the cache inputs as one list."""
        return (*self.example().values(), self.held_example())

    def held_example(self) -> list[torch.Tensor]:
        """Return zeros (B, H, N, D) for each cache input."""
        shape = (_ROWS, self.heads, self.held_slots, self.width)
        return [torch.zeros(shape, dtype=self.module.dtype) for _ in range(2 * self.layers)]

    def run(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: Masks, at: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, ...]:
        """Return the logits (B, K, V), then the keys and values of `cache` after the call.

        `ids` and `positions` are (B, T), `mask` (B, 1, T, S) or one for each layer type, and `at` (B, K).
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
    """The form with a growing past; opset 20 has all operators that it needs."""

    opset: int = 20

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that distinguishes graphs of this form from others; part of the artifact key."""
        return {"form": "past"}

    def graph(self, module: Any) -> Graph:
        """Return the module to export, with the past as cache inputs."""
        return _PastGraph(module)


class _PastGraph(Graph):
    held_slots = _PAST

    @property
    def mask_names(self) -> list[str]:
        """Names of the masks that the model's layers need."""
        names = [MASK] if self.windows.size is None or self.windows.is_mixed else []
        return names + ([WINDOW_MASK] if self.windows.size is not None else [])

    @override
    def example(self) -> Mapping[str, torch.Tensor]:
        return {
            "ids": torch.ones(_ROWS, _TOKENS, dtype=torch.long),
            "positions": torch.arange(_PAST, _PAST + _TOKENS).expand(_ROWS, -1).contiguous(),
            **{name: torch.ones(_ROWS, 1, _TOKENS, _PAST + _TOKENS, dtype=torch.bool) for name in self.mask_names},
            "at": torch.zeros(_ROWS, _WANTED, dtype=torch.long),
        }

    @override
    def arguments(self) -> tuple[Any, ...]:
        inputs = self.example()
        masks = [inputs[name] for name in self.mask_names]
        return inputs["ids"], inputs["positions"], masks, inputs["at"], self.held_example()

    @override
    def dynamic(self) -> tuple[Any, ...]:
        rows, tokens, past, slots, wanted = map(torch.export.Dim, "BTPSK")
        tokens_shape = {0: rows, 1: tokens}
        held = [{0: rows, 2: past} for _ in self.held_names]
        masks = [{0: rows, 2: tokens, 3: slots} for _ in self.mask_names]
        return tokens_shape, tokens_shape, masks, {0: rows, 1: wanted}, held

    @override
    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        masks: list[torch.Tensor],
        at: torch.Tensor,
        held: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        # The first and the last are the same unless the layers differ.
        return self.run(ids, positions, by_type(masks[0], masks[-1], self.windows), at, _Concatenated(held))


class _Concatenated:
    """Acts as transformers' cache inside the graph: present = past + new, for each layer."""

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
    """The form with fixed slots, in two variants.

    `slots=None`, for ONNX Runtime: the number of slots is dynamic, attention covers all of them, and ScatterND writes
    the new tokens. ONNX Runtime has CUDA kernels for the operators of opset 20; some of opset 24 run on its CPU.

    `slots` a number, for TensorRT: TensorScatter (opset 24) writes the new tokens. It is the only operator that
    TensorRT executes in place, and it requires a fixed number of slots.
    """

    slots: int | None = None

    @property
    def opset(self) -> int:
        """The lowest ONNX opset that has the form's operators."""
        return 20 if self.slots is None else 24

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that distinguishes graphs of this form from others; part of the artifact key."""
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
        visible = min(_PAST + _TOKENS + 1, self.held_slots) if self.slots else self.held_slots
        return {
            "ids": torch.ones(_ROWS, _TOKENS, dtype=torch.long),
            "positions": torch.arange(_PAST, _PAST + _TOKENS).expand(_ROWS, -1).contiguous(),
            "at": torch.zeros(_ROWS, _WANTED, dtype=torch.long),
            "slots": torch.arange(visible),
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
        mask = causal(slots, positions, self.windows)
        cache_class = _Scattered if self.slots is None else _Updated
        # Padding may have positions beyond the end of a learned position table.
        clamped = positions if self.max_position is None else positions.clamp(max=self.max_position - 1)
        return self.run(ids, clamped, mask, at, cache_class(held, positions, slots))


class _Scattered(_Concatenated):
    """Writes the new keys and values to their slots by ScatterND."""

    def __init__(self, held: Sequence[torch.Tensor], positions_BT: torch.Tensor, slots_S: torch.Tensor):
        super().__init__(held)
        self.positions_BT, self.seen = positions_BT, slots_S.shape[0]

    @override
    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer] = self.with_new(self.keys[layer], key)
        self.values[layer] = self.with_new(self.values[layer], value)
        return self.visible(self.keys[layer]), self.visible(self.values[layer])

    def with_new(self, held_BHND: torch.Tensor, new_BHTD: torch.Tensor) -> torch.Tensor:
        rows, heads = (torch.arange(size) for size in new_BHTD.shape[:2])
        index = (rows[:, None, None], heads[None, :, None], self.positions_BT[:, None, :])
        return held_BHND.index_put(index, new_BHTD)

    def visible(self, held_BHND: torch.Tensor) -> torch.Tensor:
        return held_BHND  # the caller passes buffers with exactly the visible slots


class _Updated(_Scattered):
    """Writes the new keys and values by TensorScatter; the new tokens of a row occupy consecutive slots."""

    @override
    def with_new(self, held_BHND: torch.Tensor, new_BHTD: torch.Tensor) -> torch.Tensor:
        inputs = (held_BHND, new_BHTD, self.positions_BT[:, 0])
        return torch.onnx.ops.symbolic(
            "TensorScatter", inputs, {"axis": 2}, dtype=held_BHND.dtype, shape=held_BHND.shape, version=24
        )

    @override
    def visible(self, held_BHND: torch.Tensor) -> torch.Tensor:
        return held_BHND[:, :, : self.seen]
