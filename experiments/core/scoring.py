"""The scoring loop: log-probabilities of given continuations.

Shapes: B rows, K scored positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from experiments.core.batching import batches, pad, pad_positions
from runtimes.base import Runtime, Traits


@dataclass(frozen=True)
class ScoreRequest:
    """The tokens from index `first_scored` on are scored, each given all before it; `first_scored` is at least 1."""

    ids: tuple[int, ...]
    first_scored: int


@dataclass(frozen=True)
class Scored:
    logprobs: tuple[float, ...]  # natural logarithm, one a scored token
    gaps: tuple[float, ...]  # how much more likely the runtime's own first choice was; 0 where it is this token

    @property
    def total(self) -> float:
        return sum(self.logprobs)


def score(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[ScoreRequest],
    token_budget: int = 4096,
    sort: bool = True,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Scored]:
    """Return one result a request, in their order. `on_done` hears how many more are finished."""
    results: dict[int, Scored] = {}
    lengths = [len(request.ids) - 1 for request in requests]  # the last token is only scored, never run
    for batch in batches(lengths, traits, token_budget, sort):
        for index, scored in zip(batch, _score_batch(runtime, traits, [requests[i] for i in batch]), strict=True):
            results[index] = scored
        on_done(len(batch))
    return [results[index] for index in range(len(requests))]


def _score_batch(runtime: Runtime, traits: Traits, requests: list[ScoreRequest]) -> Iterator[Scored]:
    ids_BT, lengths = pad([request.ids[:-1] for request in requests], traits)
    wanted = [range(request.first_scored - 1, len(request.ids) - 1) for request in requests]
    at_BK = pad_positions(wanted, len(lengths))
    logits_BKV = runtime.forward(ids_BT, lengths, None, at_BK).logits_BKV
    targets_BK = torch.zeros_like(at_BK)
    for row, request in enumerate(requests):
        targets_BK[row, : len(wanted[row])] = torch.tensor(request.ids[request.first_scored :])
    targets_BK = targets_BK.to(logits_BKV.device)
    chosen_BK = logits_BKV.gather(2, targets_BK[:, :, None])[:, :, 0]
    logprobs_BK = (chosen_BK - logits_BKV.logsumexp(dim=2)).tolist()
    gaps_BK = (logits_BKV.amax(dim=2) - chosen_BK).tolist()
    for row, positions in enumerate(wanted):
        yield Scored(tuple(logprobs_BK[row][: len(positions)]), tuple(gaps_BK[row][: len(positions)]))
