"""The last layer, run only for the tokens whose outputs are wanted: nothing reads what it says of the others.

Its keys and values are still made for all tokens. Shapes: B rows, T tokens, M wanted tokens of all rows.
"""

from __future__ import annotations

from typing import Any

import torch

_WORTH = 0.5  # share of wanted tokens above which picking them out gains nothing


class LastLayer:
    """Wraps the parts that treat each token for itself: the queries, what follows the attention, the feed-forward."""

    def __init__(self, module: Any):
        self.wanted_M: torch.Tensor | None = None  # indices into B × T; None: all tokens
        self._shape = torch.Size()
        layers = getattr(getattr(module, "base_model", None), "layers", None)
        for part in _parts(layers[-1]) if layers else []:
            part.register_forward_pre_hook(self._pick)
            part.register_forward_hook(self._put)

    def want(self, index_M: torch.Tensor | None, tokens: int) -> None:
        """Say which tokens of the next forward are wanted; None: all."""
        self.wanted_M = index_M if index_M is not None and len(index_M) < _WORTH * tokens else None

    def _pick(self, part: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.wanted_M is None:
            return None
        self._shape = inputs[0].shape
        return (inputs[0].flatten(0, -2)[self.wanted_M][None], *inputs[1:])

    def _put(self, part: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        if self.wanted_M is None:
            return None
        whole = output.new_zeros(self._shape[:-1].numel(), output.shape[-1])
        whole[self.wanted_M] = output[0]
        return whole.view(*self._shape[:-1], -1)


def _parts(layer: Any) -> list[Any]:
    attention, feed_forward = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    parts = [getattr(attention, name, None) for name in ("q_proj", "o_proj")]
    if hasattr(feed_forward, "down_proj"):  # a router of experts returns more than the outputs
        parts.append(feed_forward)
    return [part for part in parts if part is not None]
