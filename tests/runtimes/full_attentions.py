"""The outputs beside logits, computed token by token from whole attentions and hidden states of transformers.

Shapes: K positions, L layers, H query heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cosine_similarity


def scores(module: Any, ids: torch.Tensor, at: Sequence[int], context: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the External Context Scores (K, L, H) and the Parametric Knowledge Scores (K, L) of one row.

    `module` is a `transformers` Llama with eager attention.
    """
    before, after = [], []
    for layer in module.model.layers:
        layer.post_attention_layernorm.register_forward_pre_hook(lambda part, inputs: before.append(inputs[0][0]))
        layer.register_forward_hook(lambda part, inputs, output: after.append(output[0]))
    with torch.no_grad():
        outputs = module(ids[None], output_attentions=True, output_hidden_states=True)
        last = outputs.hidden_states[-1][0]
        external = [
            [[_external(heads[h, t], last, t, context) for h in range(len(heads))] for heads in _of(outputs)]
            for t in at
        ]
        lens = [
            (module.lm_head(module.model.norm(state)) for state in pair) for pair in zip(before, after, strict=True)
        ]
        knowledge = [_divergence(*(logits.double().softmax(-1) for logits in pair))[list(at)] for pair in lens]
    return torch.tensor(external), torch.stack(knowledge, dim=1).float()


def _of(outputs: Any) -> list[torch.Tensor]:
    return [weights[0] for weights in outputs.attentions]


def _external(weights: torch.Tensor, last: torch.Tensor, token: int, context: range) -> float:
    positions = torch.tensor(list(context))
    order = weights[positions].argsort(descending=True)
    most_attended = positions[order[: max(1, len(context) // 10)]]
    return float(cosine_similarity(last[most_attended].mean(0), last[token], dim=0))


def _divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    mean = (first + second) / 2
    return ((first * (first / mean).log()).sum(-1) + (second * (second / mean).log()).sum(-1)) / 2
