"""Applies the head only at the requested positions, by hooks: what a model computes after its head stays as it is.

Shapes: B rows, T new tokens per row, K requested positions, N tokens of all rows, E hidden width.
"""

from __future__ import annotations

from typing import Any

import torch

from runtime_matrix.runtimes.engines.plan import CURRENT

Inputs = tuple[torch.Tensor, ...]


def gather(hidden_BTE: torch.Tensor, at_BK: torch.Tensor) -> torch.Tensor:
    """Return (B, K, E): the hidden states at the requested positions of each row."""
    return hidden_BTE.gather(1, at_BK[:, :, None].expand(-1, -1, hidden_BTE.shape[-1]))


def apply_to_wanted(module: Any) -> None:
    """Register a hook that applies the module's head only at the positions of the current forward's plan."""
    module.get_output_embeddings().register_forward_pre_hook(_gather_planned)


def _gather_planned(head: Any, inputs: Inputs) -> Inputs | None:
    plan = CURRENT.get()
    if plan is None:  # the call does not come from an engine's forward
        return None
    (hidden_BTE,) = inputs
    packed = plan.packed
    if packed is None and hidden_BTE.shape[1] == 1 and plan.at_BK.shape[1] == 1:
        return None
    at_BK = plan.at_BK.to(hidden_BTE.device)
    if packed is not None:
        starts_B1 = torch.tensor(packed.starts, device=hidden_BTE.device)[:, None]
        return (hidden_BTE[0][starts_B1 + at_BK],)
    return (gather(hidden_BTE, at_BK),)


class TracedHead:
    """As `apply_to_wanted`, for a traced graph, which has the positions as an input.

    Compilers do not trace context variables. The traced function calls `want(at_BK)`, the module and `want(None)`.
    """

    def __init__(self, module: Any):
        self._at_BK: torch.Tensor | None = None
        module.get_output_embeddings().register_forward_pre_hook(self._gather)

    def want(self, at_BK: torch.Tensor | None) -> None:
        """Set the positions (B, K) at which the head is applied; None: all positions."""
        self._at_BK = at_BK

    def _gather(self, head: Any, inputs: Inputs) -> Inputs | None:
        if self._at_BK is None:
            return None
        (hidden_BTE,) = inputs
        return (gather(hidden_BTE, self._at_BK),)
