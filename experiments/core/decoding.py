"""The decoding loop: greedy text from prompts, every runtime through the same steps.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from experiments.core.batching import batches, pad
from runtimes.base import Runtime, Traits


@dataclass(frozen=True)
class GenerateRequest:
    ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    ids: tuple[int, ...]  # new tokens, the end-of-text token left out
    text: str
    finished_by: str  # "eos", "stop" or "length"


def decode_batch(
    runtime: Runtime,
    traits: Traits,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    wants_more: Callable[[int, list[int]], bool] = lambda row, ids: True,
    after_step: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the greedy tokens of each row. `after_step` is called when a step's tokens are on the host.

    A row stops when `wants_more(row, ids so far)` says no; the batch goes on until no row wants more.
    """
    ids_BT, lengths = pad(prompts, traits)
    capacity = ids_BT.shape[1] + max_new_tokens
    cache = runtime.new_cache(len(lengths), capacity)
    new: list[list[int]] = [[] for _ in prompts]
    active = [True] * len(prompts)
    logits_B1V = runtime.forward(ids_BT, lengths, cache).logits_BKV
    for step in range(max_new_tokens):
        tokens_B1 = logits_B1V.argmax(dim=2)
        tokens = tokens_B1[:, 0].tolist()
        after_step()
        for row in range(len(prompts)):
            if active[row]:
                new[row].append(tokens[row])
                active[row] = wants_more(row, new[row])
        if step + 1 == max_new_tokens or not any(active):
            break
        logits_B1V = runtime.forward(tokens_B1.cpu(), [1] * len(lengths), cache).logits_BKV
    return new


def generate(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[GenerateRequest],
    decode_text: Callable[[Sequence[int]], str],
    eos_ids: Sequence[int] = (),
    token_budget: int = 4096,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Generated]:
    """Return one greedy completion a request, in their order, cut at the first end-of-text token or stop string."""
    results: dict[int, Generated] = {}
    lengths = [len(request.ids) + request.max_new_tokens for request in requests]
    for batch in batches(lengths, traits, token_budget):
        chosen = [requests[i] for i in batch]

        def wants_more(row: int, ids: list[int], chosen: list[GenerateRequest] = chosen) -> bool:
            request = chosen[row]
            if ids[-1] in eos_ids or len(ids) >= request.max_new_tokens:
                return False
            return not request.stop or not _stop_at(decode_text(ids), request.stop)

        longest = max(request.max_new_tokens for request in chosen)
        rows = decode_batch(runtime, traits, [request.ids for request in chosen], longest, wants_more)
        for index, request, ids in zip(batch, chosen, rows, strict=True):
            results[index] = _finish(request, ids, decode_text, eos_ids)
        on_done(len(batch))
    return [results[index] for index in range(len(requests))]


def _finish(
    request: GenerateRequest, ids: list[int], decode_text: Callable[[Sequence[int]], str], eos_ids: Sequence[int]
) -> Generated:
    ended = bool(ids) and ids[-1] in eos_ids
    kept = ids[:-1] if ended else ids
    text = decode_text(kept)
    at = _stop_at(text, request.stop)
    if at:
        return Generated(tuple(kept), text[: at[0]], "stop")
    return Generated(tuple(kept), text, "eos" if ended else "length")


def _stop_at(text: str, stop: Sequence[str]) -> list[int]:
    """Return the position of the earliest stop string in a list, or an empty list."""
    return sorted(text.find(word) for word in stop if word in text)[:1]


def random_prompts(rows: int, tokens: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Return seeded ids for timing; zero and the first few, which are often special, are left out."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(min(8, vocabulary - 1), vocabulary, (rows, tokens), generator=generator).tolist()
