"""The work of each option for long sequences, with the option on and off, over random tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from statistics import median
from typing import Any

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.decoding import decode_batch
from runtime_matrix.experiments.evaluation.requests import ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.execution.worker import loading
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.experiments.validation.tasks.long_sequences import LONG_SWITCHES, LongSequencesConfig
from runtime_matrix.experiments.validation.tasks.switched import Opened
from runtime_matrix.runtimes.base import Runtime, Traits

Loaded = tuple[Runtime, Traits]
# The table of the Optimization Guide, technique 6, for a GPU of 16 GB; one row from 6,000 tokens on.
ROWS_BY_LENGTH = {"1000": 16, "2000": 8, "4000": 4, "6000": 2}
_EIGHT = {"1000000": 8}  # longer than any row
_BY_LENGTH, _BY_BUDGET = ScoringConfig(rows_by_length=ROWS_BY_LENGTH), ScoringConfig()
_ONE_ROW, _EIGHT_ROWS = ScoringConfig(batch=False), ScoringConfig(rows_by_length=_EIGHT)
_SCORED = 8  # tokens of an item
_WHOLE, _RECOMPUTED = GenerationConfig(), GenerationConfig(kv_cache=False)


@contextmanager
def opened_switches(bench: Bench, config: LongSequencesConfig) -> Iterator[Opened]:
    """Yield the switches; what they load beside the cell's runtime is closed at the end."""
    assert isinstance(bench, CellBench)  # a second runtime is loaded as the cell's own
    with ExitStack() as opened:
        yield Opened(_LongSwitches(bench, config, opened).all(), _sides)


class _LongSwitches:
    def __init__(self, bench: CellBench, config: LongSequencesConfig, opened: ExitStack):
        self._bench, self._config, self._opened = bench, config, opened
        self._own: Loaded = (bench.require_steps(), bench.traits)
        self._chunked = GenerationConfig(prefill_chunk=config.chunk)

    def all(self) -> list[Switch]:
        """Return all switches in the order of the table."""
        prompt, options = self._prompt, self._config
        whole, twice = prompt(options.prompt_tokens), prompt(2 * options.prompt_tokens)
        works = {
            "prompt in chunks": self._in_chunks(whole),
            "prompt in chunks, twice the tokens": self._in_chunks(twice),
            **self._of_attention(whole),
            "no key-value cache, short prompt": self._recomputed(prompt(options.short_prompt_tokens)),
            "no key-value cache, long prompt": self._recomputed(whole),
        }
        for name, lengths in (("short", self._short), ("long", self._long)):
            items = self._items(name, *lengths)
            works |= {
                f"rows by length, {name}": self._batched(items, _BY_LENGTH, _ONE_ROW),
                f"rows by length instead of eight, {name}": self._batched(items, _BY_LENGTH, _EIGHT_ROWS),
                f"token budget instead of rows by length, {name}": self._batched(items, _BY_BUDGET, _BY_LENGTH),
            }
        return [replace(works[name], name=name) for name in LONG_SWITCHES]

    # Prompts

    def _prompt(self, tokens: int) -> list[int]:
        (prompt,) = self._bench.random_prompts(1, tokens)
        return prompt

    def _in_chunks(self, prompt: list[int], loaded: Callable[[], Loaded] | None = None) -> Switch:
        work = f"the first token after {len(prompt):,}, chunks of {self._config.chunk}"
        run = partial(self._decoded, prompt, 1, loaded=loaded)
        return Switch("", partial(run, self._chunked), partial(run, _WHOLE), work=work)

    def _of_attention(self, prompt: list[int]) -> dict[str, Switch]:
        """Return the switches that need a second runtime, whose attention holds a matrix of tokens × tokens."""
        names = ("prompt in chunks, attention by matrices", "attention by sdpa, long prompt")
        if self._bench.runtime_config.engine.get("attention") != "sdpa":
            why = "the cell's runtime has no engine.attention=sdpa: use runtime=eager"
            return {name: Switch(name, list, list, unsupported=why) for name in names}
        second = self._decoded
        by_matrices = partial(second, prompt, 1, _WHOLE, loaded=lambda: self._matrices)
        sdpa = Switch(
            *("", partial(second, prompt, 1, _WHOLE), by_matrices), work=f"the first token after {len(prompt):,}"
        )
        return dict(zip(names, (self._in_chunks(prompt, lambda: self._matrices), sdpa), strict=True))

    @cached_property
    def _matrices(self) -> Loaded:
        """Load the cell's runtime with eager attention at its first use, so that it adds to no peak before."""
        cell = self._bench.cell
        engine = {**cell.config.runtime.engine, "attention": "eager"}
        config = replace(cell.config.runtime, engine=engine)
        runtime = self._opened.enter_context(loading.make_stepping(config, "measured beside the cell's"))
        return runtime, loading.load(cell, runtime, config, cell.hardware(self._bench.device), lambda _: nullcontext())

    def _recomputed(self, prompt: list[int]) -> Switch:
        tokens = self._config.new_tokens
        run = partial(self._decoded, prompt, tokens)
        work = f"{tokens} tokens after {len(prompt):,}"
        return Switch("", partial(run, _RECOMPUTED), partial(run, _WHOLE), work=work)

    def _decoded(
        self,
        prompt: list[int],
        tokens: int,
        options: GenerationConfig,
        loaded: Callable[[], Loaded] | None = None,
    ) -> list[list[int]]:
        return decode_batch(*(loaded() if loaded else self._own), [prompt], tokens, options=options)

    # Items

    @property
    def _short(self) -> tuple[int, Sequence[int]]:
        return self._config.short, self._config.short_tokens

    @property
    def _long(self) -> tuple[int, Sequence[int]]:
        return self._config.long, self._config.long_tokens

    def _items(self, name: str, count: int, lengths: Sequence[int]) -> list[ScoreRequest]:
        """Return items whose lengths are evenly spaced, in a random order."""
        shortest, longest = min(lengths), max(lengths)
        spaced = [shortest + (longest - shortest) * number // max(1, count - 1) for number in range(count)]
        random.Random(f"{self._bench.seed} {name}").shuffle(spaced)
        rows = self._bench.random_prompts(count, longest)
        return [ScoreRequest(tuple(row[:tokens]), tokens - _SCORED) for row, tokens in zip(rows, spaced, strict=True)]

    def _batched(self, items: Sequence[ScoreRequest], on: ScoringConfig, off: ScoringConfig) -> Switch:
        lengths = [len(item.ids) for item in items]
        work = f"{len(items)} items of {min(lengths):,} to {max(lengths):,} tokens"
        return Switch("", partial(self._scored, items, on), partial(self._scored, items, off), work=work)

    def _scored(self, items: Sequence[ScoreRequest], options: ScoringConfig) -> list[float]:
        return [scored.total for scored in score(*self._own, items, options)]


def _sides(entry: OpenEntry) -> list[str]:
    """Return a table of the medians of both sides, in seconds and MiB."""
    lines = [
        "Medians of the turns. After one token, the time is the time to first token.",
        "",
        "| switch | on, s | off, s | on, MiB | off, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in LONG_SWITCHES:
        if f"{name}: on_wall_s" in entry.samples:
            lines.append(f"| {name} | {' | '.join(_medians(entry.samples, name))} |")
    return lines


def _medians(samples: Mapping[str, Any], name: str) -> list[str]:
    seconds = [f"{median(samples[f'{name}: {side}_wall_s']):.3f}" for side in ("on", "off")]
    peaks = [samples.get(f"{name}: {side}_memory_bytes") for side in ("on", "off")]
    return [*seconds, *("n/a" if peak is None else f"{median(peak) / 2**20:,.0f}" for peak in peaks)]
