"""The benchmark of what long sequences need: time and peak memory of each option, on and off in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.validation.tasks.switched import Opened, Switched

LONG_SWITCHES = {  # name: key of the configuration, in the order of the table
    "prompt in chunks": "generation.prefill_chunk (off: null)",
    "prompt in chunks, twice the tokens": "generation.prefill_chunk (off: null)",
    "prompt in chunks, attention by matrices": "generation.prefill_chunk with runtime.engine.attention=eager",
    "attention by sdpa, long prompt": "runtime.engine.attention (off: eager)",
    "no key-value cache, short prompt": "generation.kv_cache=false (on costs)",
    "no key-value cache, long prompt": "generation.kv_cache=false (on costs)",
    "rows by length, short": "scoring.rows_by_length (off: one row at a time)",
    "rows by length, long": "scoring.rows_by_length (off: one row at a time)",
    "rows by length instead of eight, short": "scoring.rows_by_length (off: eight rows)",
    "rows by length instead of eight, long": "scoring.rows_by_length (off: eight rows)",
    "token budget instead of rows by length, short": "scoring.token_budget (off: scoring.rows_by_length)",
    "token budget instead of rows by length, long": "scoring.token_budget (off: scoring.rows_by_length)",
}


@dataclass(frozen=True, kw_only=True)
class LongSequencesConfig:
    """The options of the benchmark of long sequences. `items` are lengths in tokens: shortest and longest."""

    pairs: int = least(1)  # turns of on and off
    prompt_tokens: int = least(2)  # of one switch twice as many
    short_prompt_tokens: int = least(1)
    chunk: int = least(1)
    new_tokens: int = least(2)
    short: int = least(1)  # items
    short_tokens: tuple[int, ...] = least(16)  # shortest and longest
    long: int = least(1)
    long_tokens: tuple[int, ...] = least(16)
    only: str | None = None  # switches whose name contains this text

    @property
    def longest(self) -> int:
        """Return the tokens of the longest sequence."""
        return max(2 * self.prompt_tokens, self.prompt_tokens + self.new_tokens, *self.short_tokens, *self.long_tokens)


class LongSequences(Switched[LongSequencesConfig]):
    """Each option for long sequences, on and off."""

    name = "long_sequences"
    title = "long sequences"
    data = "random tokens"
    measures = "time and peak memory of prompts in chunks, the key-value cache and rows by length"
    position = 99
    Config = LongSequencesConfig
    switches = LONG_SWITCHES
    heading = "What each option for long sequences gives"
    conditions = (
        "Random tokens, on against off in turns in one process; both sides give the same tokens or scores. Peak memory "
        "is that of the cell, weights included."
    )
    measures_memory = True

    @override
    def check_model(self, config: LongSequencesConfig, facts: ModelFacts) -> None:
        if facts.max_length is not None and config.longest > facts.max_length:
            raise UserError(
                f"benchmark.long_sequences: {config.longest} tokens exceed the model's context of {facts.max_length}: "
                "add model=random model/architecture=long, or lower its prompt_tokens and long_tokens"
            )

    @override
    def options(self, config: LongSequencesConfig) -> tuple[int, str | None, JsonObject]:
        names = ("prompt_tokens", "short_prompt_tokens", "chunk", "new_tokens", "short", "long")
        lengths = {name: list(getattr(config, name)) for name in ("short_tokens", "long_tokens")}
        return config.pairs, config.only, {name: getattr(config, name) for name in ("pairs", *names)} | lengths

    @override
    @contextmanager
    def opened(self, bench: Bench, config: LongSequencesConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.long_switches import opened_switches

        with opened_switches(bench, config) as opened:
            yield opened


TASK = LongSequences()
