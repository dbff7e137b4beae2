"""The log-probability of a token, its rank, and the likeliest tokens at its position, as servers report them.

Shapes: N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime_matrix.experiments.evaluation.finite import check_numbers
from runtime_matrix.runtimes.transfer import to_device


@dataclass(frozen=True)
class TokenLogprobs:
    """A token, and what else was likely at its position. Log-probabilities are in nats, before any temperature."""

    id: int
    logprob: float
    rank: int  # 1: no token is likelier
    likeliest: tuple[tuple[int, float], ...]  # (id, log-probability), the likeliest first


def likeliest(logits_NV: torch.Tensor, tokens: Sequence[int], count: int) -> list[TokenLogprobs]:
    """Return the description of the token at each position, with `count` likeliest tokens.

    Raises FloatingPointError for a log-probability that is not finite.
    """
    logprobs_NV = logits_NV.float().log_softmax(dim=1)
    own_N1 = logprobs_NV.gather(1, to_device(torch.tensor(tokens), logits_NV.device)[:, None])
    rank_N1 = (logprobs_NV > own_N1).sum(dim=1, keepdim=True) + 1
    top_NK, ids_NK = logprobs_NV.topk(min(count, logprobs_NV.shape[1]), dim=1)
    parts = (own_N1, rank_N1, top_NK, ids_NK)
    rows: list[list[float]] = torch.cat([part.double() for part in parts], dim=1).tolist()  # one transfer
    check_numbers([row[0] for row in rows], "a described token")
    width = top_NK.shape[1]
    return [
        TokenLogprobs(
            token, row[0], int(row[1]), tuple(zip(map(int, row[2 + width :]), row[2 : 2 + width], strict=True))
        )
        for token, row in zip(tokens, rows, strict=True)
    ]
