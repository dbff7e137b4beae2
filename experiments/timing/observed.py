"""Rounds of detection in interleaved launches: the same drawn responses for each cell, in turns."""

from __future__ import annotations

from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.evaluation.requests import ObserveRequest


def draw_responses(key: str, options: ComparisonConfig, vocabulary: int) -> list[ObserveRequest]:
    """Return the responses of a round, of `new_tokens` tokens each behind a prompt that is their context."""
    assert options.observed_responses is not None
    requests = []
    for number in range(options.observed_responses):
        (prompt,) = draw_prompts(f"{key} {number}", 1, options.prompt_tokens, vocabulary)
        (response,) = draw_prompts(f"{key} {number} response", 1, (options.new_tokens,), vocabulary)
        requests.append(ObserveRequest((*prompt, *response), range(len(prompt)), len(prompt)))
    return requests
