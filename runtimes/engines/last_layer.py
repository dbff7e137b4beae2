"""Runs the last layer only for the tokens whose outputs are requested, since its other outputs are not used.

Its keys and values are still computed for all tokens. The parts that process each token separately receive only the
requested tokens: the query projection, the output projection of the attention, and the feed-forward network.
Shapes: B rows, T tokens per row, K requested positions, M requested tokens of all rows, E hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from runtime_matrix.runtimes.engines.plan import CURRENT

_WORTH = 0.5  # share of requested tokens from which on selecting them saves no time


def run_for_wanted(module: Any) -> None:
    """Register hooks that restrict the last layer to the current plan's `last_M`, where the layer has such parts."""
    layers = getattr(getattr(module, "base_model", None), "layers", None)
    for part in _parts(layers[-1]) if layers else []:
        part.register_forward_pre_hook(_pick)
        part.register_forward_hook(_put)


def wanted_tokens(at_BK: torch.Tensor, starts: Sequence[int], tokens: int) -> torch.Tensor | None:
    """Return (M,): sorted indices of the requested tokens into all `tokens`; None if too many for a saving.

    `starts[b]` is the index of the first token of row b. All tensors are on the host.
    """
    wanted_M = (torch.tensor(starts)[:, None] + at_BK).flatten().unique()
    return wanted_M if len(wanted_M) < _WORTH * tokens else None


def _pick(part: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    plan = CURRENT.get()
    if plan is None or plan.last_M is None or inputs[0].shape[:-1] != plan.shape:
        return None
    return (inputs[0].flatten(0, -2)[plan.last_M.to(inputs[0].device)][None], *inputs[1:])


def _put(part: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
    plan = CURRENT.get()
    if plan is None or plan.last_M is None or inputs[0].shape[:-1] != (1, len(plan.last_M)):
        return None
    padded = output.new_zeros(plan.shape.numel(), output.shape[-1])
    padded[plan.last_M.to(output.device)] = output[0]
    return padded.view(*plan.shape, -1)


def _parts(layer: Any) -> list[Any]:
    attention, feed_forward = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    parts = [getattr(attention, name, None) for name in ("q_proj", "o_proj")]
    # A mixture-of-experts block has no down_proj and may return more than one tensor.
    if hasattr(feed_forward, "down_proj"):
        parts.append(feed_forward)
    return [part for part in parts if part is not None]
