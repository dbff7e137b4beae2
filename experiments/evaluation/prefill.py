"""Prefill: runs prompts into a new cache, in one forward pass or in chunks, which need less memory.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.batching import pad
from runtime_matrix.experiments.evaluation.recomputing import Recomputing
from runtime_matrix.runtimes.base import Runtime, Traits


def generating(runtime: Runtime, traits: Traits, options: GenerationConfig) -> Runtime:
    """Return what generates with these options: the runtime, or one that runs every token again at each step."""
    return runtime if options.kv_cache else cast(Runtime, Recomputing(runtime, traits))


def prefill(
    runtime: Runtime, traits: Traits, prompts: Sequence[Sequence[int]], room: int, chunk: int | None = None
) -> tuple[torch.Tensor, Any]:
    """Return the logits (B, 1, V) of each prompt's last token, and a cache with room for `room` further tokens per row.

    Each forward pass runs at most `chunk` tokens of each prompt. Rows and tokens are padded to the runtime's buckets.
    """
    longest = max(map(len, prompts))
    cache: Any = runtime.new_cache(traits.buckets.pad_batch(len(prompts)), prefill_room(longest, traits, chunk) + room)
    if chunk is None or longest <= chunk:
        return runtime.forward(*pad(prompts, traits), cache).logits_BKV, cache
    # Chunks are counted from the end, so that the last pass has the last token of all rows.
    for left in range((passes(longest, chunk) - 1) * chunk, -1, -chunk):
        ends = [max(0, len(prompt) - left) for prompt in prompts]
        parts = [prompt[max(0, end - chunk) : end] or [0] for prompt, end in zip(prompts, ends, strict=True)]
        ids_BT, lengths = pad(parts, traits)
        logits_B1V = runtime.forward(ids_BT, lengths, cache).logits_BKV
        ends += [0] * (len(lengths) - len(ends))
        if left and ends != cache.lengths:  # rows that have not begun ran a token of padding
            cache.rewind(ends)
    return logits_B1V, cache


def passes(longest: int, chunk: int | None) -> int:
    """Return the number of forward passes of prompts of at most `longest` tokens."""
    return 1 if chunk is None else -(-longest // chunk)


def prefill_room(tokens: int, traits: Traits, chunk: int | None) -> int:
    """Return the tokens for which a row needs room while its prompt of `tokens` tokens is run, padding included."""
    last = tokens if chunk is None else min(tokens, chunk)
    return tokens - last + traits.buckets.pad_tokens(last)
