"""The timed decoding loop: a fixed number of greedy tokens for all rows at once. For texts see `generation.py`.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.finite import check_highest
from runtime_matrix.experiments.evaluation.prefill import generating, prefill
from runtime_matrix.runtimes.base import Runtime, Traits


def decode_batch(
    runtime: Runtime,
    traits: Traits,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    after_step: Callable[[], None] = lambda: None,
    options: GenerationConfig | None = None,
) -> list[list[int]]:
    """Return the greedy tokens of each row. `after_step` is called when a step's tokens are on the host.

    Of the options, those of prefill and of the cache count. Raises FloatingPointError for logits that are not finite,
    checked after the last step so that no step is slowed.
    """
    options = options or GenerationConfig()
    runtime = generating(runtime, traits, options)
    new: list[list[int]] = [[] for _ in prompts]
    highest: list[torch.Tensor] = []
    logits_B1V, cache = prefill(runtime, traits, prompts, max_new_tokens, options.prefill_chunk)
    ones = [1] * len(logits_B1V)
    for step in range(max_new_tokens):
        highest_B1, tokens_B1 = logits_B1V.max(dim=2)  # as fast as argmax
        highest.append(highest_B1)
        tokens = tokens_B1[:, 0].tolist()
        after_step()
        for row in range(len(prompts)):
            new[row].append(tokens[row])
        if step + 1 == max_new_tokens:
            break
        logits_B1V = runtime.forward(tokens_B1, ones, cache).logits_BKV
    check_highest(torch.cat(highest, dim=1)[: len(prompts)], "a timed step")
    return new


def random_prompts(rows: int, tokens: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Return seeded random ids for timing, without the first few ids, which are often special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(min(8, vocabulary - 1), vocabulary, (rows, tokens), generator=generator).tolist()
