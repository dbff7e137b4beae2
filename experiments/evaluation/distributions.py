"""Whole distributions of a runtime and of the reference over the same forced tokens, a batch at a time.

The reference runs first, in a process of its own, and leaves its log-probabilities in a file that is mapped, not read:
memory stays flat. Shapes: N scored tokens of all windows, K scored tokens of a batch's rows, V vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtime_matrix.experiments.evaluation.batching import batches, pad, pad_positions
from runtime_matrix.experiments.evaluation.finite import check_highest
from runtime_matrix.experiments.evaluation.requests import ScoreRequest
from runtime_matrix.runtimes.base import Runtime, Traits


def write_reference(runtime: Runtime, traits: Traits, chosen: Sequence[ScoreRequest], file: Path, budget: int) -> None:
    """Write the log-probabilities (N, V) as float32."""
    scored = sum(len(window.ids) - window.first_scored for window in chosen)
    partial = file.with_name(f"{file.name}.partial")
    out: Any = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.float32, shape=(scored, traits.vocabulary)
    )
    starts = np.cumsum([0, *(len(window.ids) - window.first_scored for window in chosen)])
    for index, logprobs_KV, _ in distributions(runtime, traits, chosen, budget):
        out[starts[index] : starts[index + 1]] = logprobs_KV.cpu().numpy()
    out.flush()
    os.replace(partial, file)


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence from the reference a token (nats), agreement on the top token, and the change of the
    right token's probability. All figures that llama.cpp's `--kl-divergence` reports."""

    tokens: int
    kl_mean: float
    kl_standard_error: float | None  # clustered over windows
    kl_p50: float
    kl_p90: float
    kl_p99: float
    kl_p99_9: float
    kl_max: float
    same_top_ratio: float
    right_token_probability_change: float
    right_token_probability_change_rms: float


def compare(runtime: Runtime, traits: Traits, chosen: Sequence[ScoreRequest], file: Path, budget: int) -> Divergence:
    """Return how far the runtime's distributions are from the reference's.

    FloatingPointError for logits that are not finite, and for a divergence that is infinite.
    """
    reference_NV = np.load(file, mmap_mode="r")
    starts = np.cumsum([0, *(len(window.ids) - window.first_scored for window in chosen)])
    divergences = np.empty(len(reference_NV))
    changes = np.empty(len(reference_NV))
    same_top = 0
    by_window = np.empty(len(chosen))
    for index, mine_KV, targets_K in distributions(runtime, traits, chosen, budget):
        here = slice(int(starts[index]), int(starts[index + 1]))
        mine_KV = mine_KV.double().cpu()
        theirs_KV = torch.from_numpy(np.array(reference_NV[here])).double()
        # What the reference rules out adds nothing: 0 · log 0 is 0 in the limit.
        terms_KV = torch.where(theirs_KV == -torch.inf, 0.0, theirs_KV.exp() * (theirs_KV - mine_KV))
        divergence_K = terms_KV.sum(dim=1).clamp(min=0.0)
        if not bool(divergence_K.isfinite().all()):
            raise FloatingPointError("the divergence is infinite: the runtime rules out what the reference does not")
        divergences[here] = divergence_K.numpy()
        by_window[index] = float(divergence_K.mean())
        same_top += int((mine_KV.argmax(dim=1) == theirs_KV.argmax(dim=1)).sum())
        change_K = mine_KV.gather(1, targets_K[:, None]).exp() - theirs_KV.gather(1, targets_K[:, None]).exp()
        changes[here] = change_K[:, 0].numpy()
    p50, p90, p99, p99_9 = (float(np.percentile(divergences, percent)) for percent in (50, 90, 99, 99.9))
    error = float(by_window.std(ddof=1) / len(chosen) ** 0.5) if len(chosen) > 1 else None
    return Divergence(
        tokens=len(divergences),
        kl_mean=float(divergences.mean()),
        kl_standard_error=error,
        kl_p50=p50,
        kl_p90=p90,
        kl_p99=p99,
        kl_p99_9=p99_9,
        kl_max=float(divergences.max()),
        same_top_ratio=same_top / len(divergences),
        right_token_probability_change=float(changes.mean()),
        right_token_probability_change_rms=float(np.sqrt((changes**2).mean())),
    )


@torch.inference_mode()
def distributions(
    runtime: Runtime, traits: Traits, chosen: Sequence[ScoreRequest], budget: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield for each window its index, the log-probabilities (K, V) of its scored positions, and their right tokens."""
    # A row's logits are V times as many numbers as its tokens: the budget is for tokens, so few rows go at once.
    rows_budget = max(1, min(budget, (1 << 26) // traits.vocabulary))
    lengths = [len(window.ids) - 1 for window in chosen]
    for batch in batches(lengths, traits, rows_budget):
        ids_BT, padded = pad([chosen[i].ids[:-1] for i in batch], traits)
        wanted = [range(chosen[i].first_scored - 1, len(chosen[i].ids) - 1) for i in batch]
        logits_BKV = runtime.forward(ids_BT, padded, None, pad_positions(wanted, len(padded))).logits_BKV
        for row, index in enumerate(batch):
            check_highest(logits_BKV[row, : len(wanted[row])].amax(dim=1), "a token of the divergence text")
            targets_K = torch.tensor(chosen[index].ids[chosen[index].first_scored :])
            yield index, logits_BKV[row, : len(wanted[row])].float().log_softmax(dim=1), targets_K
