"""A training step of a runtime: its forward and backward pass, with or without gradient checkpointing.

It covers no optimizer: what one does and holds is the same with and without checkpointing.
Shapes: B rows, T tokens per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # importing torch takes seconds, and the command line imports this module
    import torch


TokenIds = Sequence[Sequence[int]]  # of equal lengths; a tensor will do


class Training(Protocol):
    """A loaded model whose weights all have gradients. Each call returns when the device is idle.

    A loss is the mean cross-entropy of each token after the first of its row, in nats. Random choices of the model,
    such as dropout, are the same in each call.
    """

    def set_checkpointing(self, enabled: bool) -> None:
        """Keep the inputs of each layer alone, and compute its activations again in the backward pass."""
        ...

    def step(self, ids_BT: TokenIds) -> float:
        """Replace the gradients by those of a forward and a backward pass; return the loss."""
        ...

    def forward(self, ids_BT: TokenIds) -> float:
        """Run the forward pass of a training step alone, with all that a backward pass would read; return the loss."""
        ...

    def infer(self, ids_BT: TokenIds) -> float:
        """Run a forward pass in inference mode, without a cache; return the loss."""
        ...

    def gradients(self) -> Mapping[str, torch.Tensor]:
        """Return the gradients of the last step by the name of the weight; empty without one."""
        ...

    def drop_gradients(self) -> None:
        """Free the gradients."""
        ...
