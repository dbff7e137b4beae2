"""Simulated round-to-nearest quantization: weights are rounded, then stored and computed in the runtime's dtype.

It saves neither memory nor time. It is the accuracy baseline that a quantization method must exceed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.footprint import ELEMENT_BYTES, ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full


class Rounded:
    """Weights rounded to `bits` (2 to 8), with one scale per `group_size` inputs of an output row; None: per row.

    Raises Unsupported for other `bits`.
    """

    form: ClassVar[str] = "dense"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, bits: int, group_size: int | None = None):
        if not 2 <= bits <= 8:
            raise Unsupported(f"weights are rounded to 2 to 8 bits, not {bits}: set runtime.weights.bits")
        self._bits, self._group_size = bits, group_size

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": "rounded", "bits": self._bits, "group_size": self._group_size}

    def check(self, hw: Hardware) -> None:
        """Do nothing: only torch and transformers are required."""

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint:
        """Return what `load` takes: rounded matrices are new ones, and one is rounded in float32 at a time."""
        dense = full.dense_footprint(sizes, dtype)
        kept = 0 if sizes.stored_dtype != dtype else (sizes.linear + sizes.head) * ELEMENT_BYTES[dtype]  # mapped file
        held = dense.held_bytes + kept
        return WeightFootprint(held, max(dense.load_bytes, held + 4 * 3 * max(sizes.largest, sizes.head)))

    def load(self, request: LoadRequest) -> Any:
        """Return the module with rounded weights. Raises Unsupported if groups do not divide a layer's width."""
        import torch

        module = full.load_module(request)
        embedding = module.get_input_embeddings().weight
        for name, part in module.named_modules():
            # A head tied to the embedding is not rounded: that would round the embedding as well.
            if isinstance(part, torch.nn.Linear) and part.weight is not embedding:
                check_groups(name, part.in_features, self._group_size)
                part.weight.data = round_to_nearest(part.weight.float(), self._bits, self._group_size).to(
                    part.weight.dtype
                )
        return module


def round_to_nearest(weight_OI: torch.Tensor, bits: int, group_size: int | None = None) -> torch.Tensor:
    """Return the weights (O outputs x I inputs) rounded symmetrically to `bits`, with one scale per group.

    A group is `group_size` consecutive inputs of an output row, and `group_size` must divide I. None: the whole row.
    """
    largest = 2 ** (bits - 1) - 1
    grouped = weight_OI.reshape(weight_OI.shape[0], -1, group_size or weight_OI.shape[1])
    scale = grouped.abs().amax(dim=2, keepdim=True).clamp(min=1e-12) / largest
    rounded: torch.Tensor = (grouped / scale).round().clamp(-largest, largest) * scale
    return rounded.reshape(weight_OI.shape)


def check_groups(name: str, width: int, group_size: int | None) -> None:
    """Raise Unsupported if `group_size` does not divide `width`, the input width of the layer `name`."""
    if group_size is not None and (group_size < 1 or width % group_size):
        raise Unsupported(
            f"runtime.weights.group_size={group_size} does not divide {name}, which is {width} wide: use a divisor"
        )
