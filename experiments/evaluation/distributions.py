"""Next-token distributions of a runtime and of the reference over the same given text, batch by batch.

The reference runs first, in its own process, and writes its log-probabilities to a file. The file is memory-mapped, so
memory use stays flat. Shapes: N scored tokens of all windows, K scored tokens of one window, V vocabulary.
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


def write_reference(runtime: Runtime, traits: Traits, windows: Sequence[ScoreRequest], file: Path, budget: int) -> None:
    """Write the log-probabilities (N, V) of all windows as float32 in NumPy's format."""
    scored = sum(len(window.ids) - window.first_scored for window in windows)
    partial = file.with_name(f"{file.name}.partial")
    logprobs_NV: Any = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.float32, shape=(scored, traits.vocabulary)
    )
    starts = np.cumsum([0, *(len(window.ids) - window.first_scored for window in windows)])
    for index, logprobs_KV, _ in distributions(runtime, traits, windows, budget):
        logprobs_NV[starts[index] : starts[index + 1]] = logprobs_KV.cpu().numpy()
    logprobs_NV.flush()
    os.replace(partial, file)


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence from the reference per token (nats), and the change of the right token's probability.

    The figures are those of llama.cpp's `--kl-divergence`.
    """

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


def compare(runtime: Runtime, traits: Traits, windows: Sequence[ScoreRequest], file: Path, budget: int) -> Divergence:
    """Return the divergence of the runtime's distributions from the reference's.

    Raises FloatingPointError for logits that are not finite and for an infinite divergence.
    """
    reference_NV = np.load(file, mmap_mode="r")
    starts = np.cumsum([0, *(len(window.ids) - window.first_scored for window in windows)])
    divergences = np.empty(len(reference_NV))
    changes = np.empty(len(reference_NV))
    same_top = 0
    by_window = np.empty(len(windows))
    for index, logprobs_KV, targets_K in distributions(runtime, traits, windows, budget):
        span = slice(int(starts[index]), int(starts[index + 1]))
        logprobs_KV = logprobs_KV.double().cpu()
        reference_KV = torch.from_numpy(np.array(reference_NV[span])).double()
        # Tokens of probability 0 under the reference add nothing: 0 · log 0 is 0 in the limit.
        terms_KV = torch.where(reference_KV == -torch.inf, 0.0, reference_KV.exp() * (reference_KV - logprobs_KV))
        divergence_K = terms_KV.sum(dim=1).clamp(min=0.0)
        if not bool(divergence_K.isfinite().all()):
            raise FloatingPointError(
                "the divergence is infinite: the runtime gives probability 0 to a token that the reference does not"
            )
        divergences[span] = divergence_K.numpy()
        by_window[index] = float(divergence_K.mean())
        same_top += int((logprobs_KV.argmax(dim=1) == reference_KV.argmax(dim=1)).sum())
        change_K = logprobs_KV.gather(1, targets_K[:, None]).exp() - reference_KV.gather(1, targets_K[:, None]).exp()
        changes[span] = change_K[:, 0].numpy()
    p50, p90, p99, p99_9 = (float(np.percentile(divergences, percent)) for percent in (50, 90, 99, 99.9))
    error = float(by_window.std(ddof=1) / len(windows) ** 0.5) if len(windows) > 1 else None
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
    runtime: Runtime, traits: Traits, windows: Sequence[ScoreRequest], budget: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield per window its index, the log-probabilities (K, V) of its scored positions and the right tokens (K)."""
    # The budget counts tokens, and each token has V logits: this keeps batches small enough for memory.
    rows_budget = max(1, min(budget, (1 << 26) // traits.vocabulary))
    lengths = [len(window.ids) - 1 for window in windows]
    for batch in batches(lengths, traits, rows_budget):
        ids_BT, padded = pad([windows[i].ids[:-1] for i in batch], traits)
        positions = [range(windows[i].first_scored - 1, len(windows[i].ids) - 1) for i in batch]
        logits_BKV = runtime.forward(ids_BT, padded, None, pad_positions(positions, len(padded))).logits_BKV
        for row, index in enumerate(batch):
            check_highest(logits_BKV[row, : len(positions[row])].amax(dim=1), "a token of the divergence text")
            targets_K = torch.tensor(windows[index].ids[windows[index].first_scored :])
            yield index, logits_BKV[row, : len(positions[row])].float().log_softmax(dim=1), targets_K
