"""What ONNX Runtime and TensorRT share: one exported graph, its inputs and outputs bound to torch's memory.

Shapes: B rows, T new tokens, K wanted positions, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch

from runtimes.base import ModelSource, Outputs, Runtime
from runtimes.engines.eager import last_positions
from runtimes.engines.past import PastCache, PastShape

Tensors = Mapping[str, torch.Tensor]


class PastGraph(Runtime):
    """An engine over the graph of `onnx_graph`. `load` sets what is declared here; `_execute` runs one step."""

    _shape: PastShape
    _held_names: Sequence[str]  # the graph's inputs that hold the past, in the order of the cache
    _has_positions: bool
    _max_length: int | None
    _vocabulary: int
    _logits_dtype: torch.dtype

    @abstractmethod
    def _execute(self, inputs: Tensors, outputs: Tensors, keep: bool) -> None:
        """Run one step over contiguous tensors on the device, in the current stream's order.

        Where `keep` is false, nobody reads the present keys and values.
        """

    def new_cache(self, rows: int, capacity: int) -> PastCache:
        return PastCache(self._shape, rows, capacity)

    @torch.inference_mode()
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: PastCache | None = None,
        at_BK: torch.Tensor | None = None,
    ) -> Outputs:
        held = cache if cache is not None else self.new_cache(len(lengths), ids_BT.shape[1])
        rows, tokens = ids_BT.shape
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        inputs = {"ids": ids_BT, "mask": held.mask(tokens), "at": at_BK}
        if self._has_positions:
            positions_BT = torch.tensor(held.row_lengths)[:, None] + torch.arange(tokens)
            # Padding may lie beyond the last position.
            inputs["positions"] = positions_BT.clamp(max=self._max_length - 1) if self._max_length else positions_BT
        inputs = {name: value.to(self._shape.device).contiguous() for name, value in inputs.items()}
        inputs |= dict(zip(self._held_names, held.past, strict=True))
        size = (rows, at_BK.shape[1], self._vocabulary)
        logits_BKV = torch.empty(size, dtype=self._logits_dtype, device=self._shape.device)
        outputs = {"logits": logits_BKV}
        outputs |= {f"new_{name}": new for name, new in zip(self._held_names, held.present(tokens), strict=True)}
        self._execute(inputs, outputs, keep=cache is not None)
        if cache is not None:
            cache.advance(lengths, tokens)
        return Outputs(logits_BKV.float())

    def synchronize(self) -> None:
        if self._shape.device == "cuda":
            torch.cuda.synchronize()


def context_length(model: ModelSource) -> int | None:
    """Return how many tokens the model's configuration allows, or None where it states no limit."""
    from transformers import AutoConfig

    if model.folder is None:
        return dict(model.architecture or {}).get("max_position_embeddings")
    return getattr(AutoConfig.from_pretrained(model.folder).get_text_config(), "max_position_embeddings", None)


def address(tensor: torch.Tensor) -> int:
    """Return where the tensor's memory starts; an empty tensor's own `data_ptr` is null, which engines refuse."""
    return tensor.data_ptr() or tensor.untyped_storage().data_ptr()
