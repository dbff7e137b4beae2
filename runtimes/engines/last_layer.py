"""The last layer, run only for the tokens whose outputs are wanted: nothing reads what it says of the others.

Its keys and values are still made for all tokens. The parts that treat each token for itself are given the wanted ones:
the queries, what follows the attention, the feed-forward.
Shapes: B rows, T tokens, K wanted positions, M wanted tokens of all rows, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from runtime_matrix.runtimes.engines.plan import CURRENT

_WORTH = 0.5  # share of wanted tokens above which picking them out gains nothing


def run_for_wanted(module: Any) -> None:
    """Have the module's last layer run for what the plan of the forward that runs names, where it has such parts."""
    layers = getattr(getattr(module, "base_model", None), "layers", None)
    for part in _parts(layers[-1]) if layers else []:
        part.register_forward_pre_hook(_pick)
        part.register_forward_hook(_put)


def wanted_tokens(at_BK: torch.Tensor, starts: Sequence[int], tokens: int) -> torch.Tensor | None:
    """Return (M,): the places of the wanted tokens among all `tokens`; None where so many are that none is left out.

    `starts` says where each row begins among them. All on the host.
    """
    wanted_M = (torch.tensor(starts)[:, None] + at_BK).flatten().unique()
    return wanted_M if len(wanted_M) < _WORTH * tokens else None


def _pick(part: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    plan = CURRENT.get()
    if plan is None or plan.last_M is None or inputs[0].shape[:-1] != plan.shape:
        return None
    return (inputs[0].flatten(0, -2)[plan.last_M][None], *inputs[1:])


def _put(part: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
    plan = CURRENT.get()
    if plan is None or plan.last_M is None or inputs[0].shape[:-1] != (1, len(plan.last_M)):
        return None
    whole = output.new_zeros(plan.shape.numel(), output.shape[-1])
    whole[plan.last_M] = output[0]
    return whole.view(*plan.shape, -1)


def _parts(layer: Any) -> list[Any]:
    attention, feed_forward = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    parts = [getattr(attention, name, None) for name in ("q_proj", "o_proj")]
    if hasattr(feed_forward, "down_proj"):  # a router of experts returns more than the outputs
        parts.append(feed_forward)
    return [part for part in parts if part is not None]
