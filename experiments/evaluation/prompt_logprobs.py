"""The log-probability of each token of a prompt with the likeliest tokens at its position, as servers report them.

For log-probabilities alone see `scoring.py`, which never sorts a vocabulary. Shapes: B rows, T tokens, K positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime_matrix.experiments.evaluation.batching import batches, pad, pad_positions, split
from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs, likeliest
from runtime_matrix.runtimes.base import Runtime, Traits

_MOST_LOGITS = 1 << 26  # logits per forward (0.25 GiB in float32); the log-probabilities take as much again
Described = list[tuple[int, list[TokenLogprobs]]]  # (index of the prompt, its tokens from the second on)


def describe_prompts(
    runtime: Runtime, traits: Traits, prompts: Sequence[Sequence[int]], alternatives: int
) -> Iterator[Described]:
    """Yield the results of each batch; a prompt with more positions than a forward may return is run in parts.

    The first token of a prompt has no log-probability. Raises FloatingPointError for logits that are not finite.
    """
    most = max(1, _MOST_LOGITS // traits.vocabulary)
    lengths = [len(prompt) - 1 for prompt in prompts]
    yield [(index, []) for index, length in enumerate(lengths) if not length]
    known = [index for index, length in enumerate(lengths) if length]
    for batch in batches([lengths[index] for index in known], traits, traits.batch_tokens):
        for part in split([known[at] for at in batch], lengths, most):
            if len(part) == 1 and lengths[part[0]] > most:
                yield [(part[0], _in_parts(runtime, traits, prompts[part[0]], alternatives, most))]
            else:
                yield _together(runtime, traits, prompts, part, alternatives)


def _together(
    runtime: Runtime, traits: Traits, prompts: Sequence[Sequence[int]], part: Sequence[int], alternatives: int
) -> Described:
    ids_BT, lengths = pad([prompts[index][:-1] for index in part], traits)  # the last token is described but never run
    wanted = [range(len(prompts[index]) - 1) for index in part]
    logits_BKV = runtime.forward(ids_BT, lengths, None, pad_positions(wanted, len(lengths))).logits_BKV
    return [
        (index, likeliest(logits_BKV[row, : len(wanted[row])], prompts[index][1:], alternatives))
        for row, index in enumerate(part)
    ]


def _in_parts(
    runtime: Runtime, traits: Traits, prompt: Sequence[int], alternatives: int, most: int
) -> list[TokenLogprobs]:
    cache = runtime.new_cache(traits.buckets.pad_batch(1), traits.buckets.pad_tokens(most) + len(prompt))
    described: list[TokenLogprobs] = []
    for start in range(0, len(prompt) - 1, most):
        ids = prompt[start : min(start + most, len(prompt) - 1)]
        ids_BT, lengths = pad([ids], traits)
        at_BK = pad_positions([range(len(ids))], len(lengths))
        logits_KV = runtime.forward(ids_BT, lengths, cache, at_BK).logits_BKV[0, : len(ids)]
        described += likeliest(logits_KV, prompt[start + 1 : start + 1 + len(ids)], alternatives)
    return described
