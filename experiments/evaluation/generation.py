"""Generation: requests in, texts out. The next request takes the place of a finished row in the same cache.

A row's text depends on its own prompt, options and seed, and not on the other rows (up to float32 rounding). For
requests that arrive one by one see `continuous.py`; both use the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.decoding_loop import DecodingLoop, LoopSize, room_of
from runtime_matrix.experiments.evaluation.generation_report import GenerationReport
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.rows import Piece, Row
from runtime_matrix.experiments.evaluation.speculation import Drafter
from runtime_matrix.runtimes.base import Runtime, Traits

__all__ = ["GenerationReport", "OnDone", "generate"]

OnDone = Callable[[int, int, Generated], None]  # (request, sample, result), called as soon as a text is finished


def generate(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[GenerateRequest],
    new_text: Callable[[Sequence[int]], Piece],
    eos_ids: Sequence[int] = (),
    options: GenerationConfig | None = None,
    on_done: OnDone = lambda request, sample, result: None,
    report: GenerationReport | None = None,
    drafter: Drafter | None = None,
) -> list[list[Generated]]:
    """Return one list per request with one text per seed, in their order.

    `new_text(prompt ids)` returns the function that turns tokens into text. `drafter` proposes tokens for greedy rows
    and never changes their texts. Raises FloatingPointError for logits that are not finite.
    """
    options = options or GenerationConfig()
    results: list[list[Generated | None]] = [[None] * len(request.seeds) for request in requests]

    def keep(row: Row, result: Generated) -> None:
        results[row.index][row.sample] = result
        on_done(row.index, row.sample, result)

    capacity = max((room_of(request, traits, drafter, options.prefill_chunk) for request in requests), default=0)
    fitting = max(1, options.token_budget // max(1, capacity))
    texts = sum(len(request.seeds) for request in requests)
    size = LoopSize(min(texts, fitting, traits.max_batch or fitting), capacity)
    loop = DecodingLoop(runtime, traits, new_text, eos_ids, options, size, keep, drafter)
    loop.report = report or loop.report
    # Prompts of similar length are prefilled together.
    for index in sorted(range(len(requests)), key=lambda i: (-len(requests[i].ids), i)):
        loop.add(index, requests[index])
    while not loop.is_idle:
        loop.fill()
        loop.step()
    return [[result for result in texts if result is not None] for texts in results]
