"""What the generating benchmarks share: prompts in, texts out, progress, and one line an item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.benchmarks.plugin import Bench
from experiments.core.generation import Generated, GenerateRequest, generate


@dataclass(frozen=True)
class Asked:
    """What is asked of the model for one item."""

    id: str
    prompt: str


@dataclass(frozen=True)
class Decoding:
    max_new_tokens: int
    stop: tuple[str, ...]
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0


def answers(
    bench: Bench,
    asked: Sequence[Asked],
    decoding: Decoding,
    on_text: Callable[[int, int, Generated], None] = lambda item, sample, result: None,
) -> tuple[list[list[Generated]], int]:
    """Return the texts of each item, and how many prompts had to be cut. `on_text` hears of each as it is finished."""
    text = bench.require_text()
    requests, cut, done = [], 0, 0
    for one in asked:
        ids, was_cut = text.prompt(one.prompt, decoding.max_new_tokens)
        cut += was_cut
        seeds = tuple(_seed(bench.cell.config.seed, one.id, sample) for sample in range(decoding.samples))
        requests.append(
            GenerateRequest(ids, decoding.max_new_tokens, decoding.stop, decoding.temperature, decoding.top_p, seeds)
        )

    def on_done(item: int, sample: int, result: Generated) -> None:
        nonlocal done
        done += 1
        bench.on_items(done, len(requests) * decoding.samples)
        on_text(item, sample, result)

    options = bench.cell.config.generation
    found = generate(
        bench.runtime,
        bench.traits,
        requests,
        text.piecewise,
        bench.cell.facts.eos_ids,
        options.token_budget,
        options.refill,
        on_done,
    )
    return found, cut


def _seed(seed: int, item: str, sample: int) -> int:
    """Return a seed of the item's own, so that its text does not depend on which other items are asked."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{item}/{sample}".encode()).digest()[:8], "big")
