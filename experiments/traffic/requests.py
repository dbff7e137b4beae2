"""Requests of given sizes: seeded random prompts that are all different, except for a prefix that they may share."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.evaluation.requests import GenerateRequest
from runtime_matrix.experiments.traffic.arrivals import Size


def draw_requests(key: str, sizes: Sequence[Size], shared_prefix_tokens: int, vocabulary: int) -> list[GenerateRequest]:
    """Return one request per size; `key` is the seed. Each prompt has at least one token after the shared prefix.

    Texts have exactly their number of new tokens, because the end-of-text token is ignored.
    """
    prefix: list[int] = []
    if shared_prefix_tokens:
        prefix = draw_prompts(f"{key} prefix", 1, [shared_prefix_tokens], vocabulary)[0]
    requests = []
    for place, size in enumerate(sizes):
        own = max(1, size.prompt_tokens - len(prefix))
        ids = prefix + draw_prompts(f"{key} {place}", 1, [own], vocabulary)[0]
        requests.append(GenerateRequest(tuple(ids), size.new_tokens, ignore_eos=True))
    return requests
