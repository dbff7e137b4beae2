"""Training steps of a `transformers` module: its plain forward without a cache, and PyTorch's backward.

Shapes: B rows, T tokens per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from runtime_matrix.runtimes.base import ModelSource, Placement, Unsupported, Weights
from runtime_matrix.runtimes.training import TokenIds

_SEED = 0  # of dropout: both sides of a comparison leave out the same activations


def why_untrainable(model: ModelSource, weights: Weights, placement: Placement | None) -> str | None:
    """Return why the weights of a loaded module cannot have gradients; None if they can."""
    if weights.form != "dense" or model.stored_method is not None:
        return "packed weights have no gradients: use runtime/weights=full and a model that is not quantized"
    if placement is not None:
        return "weights that a placement moves have no gradients here: use runtime/placement=device"
    if model.adapter is not None and not model.adapter.is_merged:
        return "gradients are those of all weights, which an adapter beside them is not: use merge_adapter=true"
    return None


@contextmanager
def training(module: Any, device: str) -> Iterator[TorchTraining]:
    """Yield the module for training steps; at the end of the block it is as it was, and the gradients are freed.

    Raises Unsupported for an architecture without gradient checkpointing.
    """
    if not module.supports_gradient_checkpointing:
        raise Unsupported(f"{type(module).__name__} of transformers does not support gradient checkpointing")
    parts = [(part, part.training) for part in module.modules()]
    weights = [(weight, weight.requires_grad) for weight in module.parameters()]
    steps = TorchTraining(module, device)
    try:
        for weight, _ in weights:
            weight.requires_grad_(True)
        yield steps
    finally:
        steps.drop_gradients()
        steps.set_checkpointing(False)
        for part, was_training in parts:
            part.training = was_training
        for weight, required in weights:
            weight.requires_grad_(required)


class TorchTraining:
    """Implements `runtimes.training.Training`."""

    def __init__(self, module: Any, device: str):
        self._module, self._device = module, device

    def set_checkpointing(self, enabled: bool) -> None:
        """Switch transformers' own checkpointing of each layer, without reentrant autograd."""
        module = self._module
        # Version 5.23 of transformers renamed both methods; the earlier names only warn now.
        if enabled:
            enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
            enable()  # its default is use_reentrant=False
        else:
            disable = getattr(module, "activation_checkpointing_disable", None) or module.gradient_checkpointing_disable
            disable()
        # Enabling makes the embeddings' output require gradients, for frozen weights, and disabling leaves that hook.
        if getattr(module, "_require_grads_hooks", None):
            module.disable_input_require_grads()

    def step(self, ids_BT: TokenIds) -> float:
        """Replace the gradients by those of a forward and a backward pass; return the loss."""
        self.drop_gradients()
        loss = self._loss(ids_BT, training=True)
        loss.backward()
        return self._idle(loss)

    def forward(self, ids_BT: TokenIds) -> float:
        """Run the forward pass of a training step alone; return the loss."""
        return self._idle(self._loss(ids_BT, training=True))

    @torch.inference_mode()
    def infer(self, ids_BT: TokenIds) -> float:
        """Run a forward pass in inference mode; return the loss."""
        return self._idle(self._loss(ids_BT, training=False))

    def gradients(self) -> Mapping[str, torch.Tensor]:
        """Return the gradients of the last step by the name of the weight."""
        named = self._module.named_parameters()
        return {name: weight.grad for name, weight in named if weight.grad is not None}

    def drop_gradients(self) -> None:
        """Free the gradients."""
        self._module.zero_grad(set_to_none=True)

    def _loss(self, ids_BT: TokenIds, training: bool) -> torch.Tensor:
        if self._module.training != training:
            self._module.train(training)
        on_device_BT = torch.as_tensor(ids_BT, device=self._device)
        with torch.random.fork_rng(devices=[self._device] if self._device == "cuda" else []):
            torch.manual_seed(_SEED)
            loss: torch.Tensor = self._module(input_ids=on_device_BT, labels=on_device_BT, use_cache=False).loss
        return loss

    def _idle(self, loss: torch.Tensor) -> float:
        """Return the loss when the device is idle."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())
