"""The probe of the audit: one fixed batch, computed in two orders of its rows. The same in scored and timed processes.

Shapes: B rows, P positions, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from runtime_matrix.experiments.evaluation.batching import pad
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.records.audit import Probe
from runtime_matrix.runtimes.base import Outputs, Runtime, Traits

_STEPS = 2  # of decoding, with given tokens, so that a near tie cannot change what follows
_KEY = "audit"


def probe(runtime: Runtime, traits: Traits, rows: int, prompt_tokens: Sequence[int]) -> Probe:
    """Return the runtime's answers to `rows` prompts, fewer if the runtime takes fewer, and the effect of their order.

    The shapes are those of timed rounds, so that nothing is compiled for them.
    """
    rows = min(rows, traits.max_batch or rows)
    room = max(1, (traits.max_length or max(prompt_tokens) + _STEPS) - _STEPS)
    prompts = draw_prompts(_KEY, rows, [min(tokens, room) for tokens in prompt_tokens], traits.vocabulary)
    forced = draw_prompts(f"{_KEY} steps", rows, (_STEPS,), traits.vocabulary)
    logits_BPV = _logits(runtime, traits, prompts, forced)
    logprobs_BP, tokens_BP = logits_BPV.log_softmax(dim=2).max(dim=2)
    return Probe(
        rows=rows,
        top_tokens=tokens_BP.flatten().tolist(),
        logprobs=[round(value, 7) for value in logprobs_BP.flatten().tolist()],
        row_order_ratio=_row_order_ratio(runtime, traits, prompts, forced, logits_BPV) if rows > 1 else None,
    )


def _row_order_ratio(
    runtime: Runtime,
    traits: Traits,
    prompts: Sequence[Sequence[int]],
    forced: Sequence[Sequence[int]],
    logits_BPV: torch.Tensor,
) -> float | None:
    order = [*range(1, len(prompts)), 0]  # every row gets another place
    moved_BPV = _logits(runtime, traits, [prompts[row] for row in order], [forced[row] for row in order])
    difference = float((moved_BPV - logits_BPV[order]).abs().max())
    pairs = itertools.combinations(range(len(prompts)), 2)
    between = torch.stack([(logits_BPV[one] - logits_BPV[other]).abs().max() for one, other in pairs])
    median = float(between.median())
    return difference / median if median > 0 else None


def _logits(
    runtime: Runtime, traits: Traits, prompts: Sequence[Sequence[int]], forced: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return the logits after each prompt and after each forced token of its row (B, P, V)."""
    ids_BT, lengths = pad(prompts, traits)
    padding = [0] * (len(lengths) - len(prompts))
    cache = runtime.new_cache(len(lengths), ids_BT.shape[1] + _STEPS)
    outputs = [_copied(runtime.forward(ids_BT, lengths, cache))]
    for step in range(_STEPS):
        tokens_B1 = torch.tensor([*(row[step] for row in forced), *padding])[:, None]
        outputs.append(_copied(runtime.forward(tokens_B1, [1] * len(lengths), cache)))
    return torch.cat(outputs, dim=1)[: len(prompts)]


def _copied(outputs: Outputs) -> torch.Tensor:
    """Return a copy of the logits (B, 1, V): a replayed graph overwrites them with its next call."""
    return outputs.logits_BKV[:, -1:].to("cpu", torch.float32, copy=True)
