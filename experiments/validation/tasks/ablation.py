"""The benchmark of the evaluation core's switches: on against off in turns, with the model loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.validation.tasks.switched import Opened, Switched

SWITCHES = {  # name: key of the configuration, in the order of the table
    "batched rows": "scoring.batch",
    "shared prefix": "scoring.share_prefix",
    "shared question": "scoring.share_question",
    "prefix, question and batches": "all three",
    "sorting by length": "scoring.sort_by_length",
    "token budget": "scoring.token_budget (off: 256)",
    "exact scores": "scoring.batch_invariant (on costs)",
    "key-value cache": "generation.kv_cache",
    "batched texts": "generation.token_budget (off: one row)",
    "refilling": "generation.refill",
    "speculation by lookup": "generation.speculate",
    "speculation, one row": "generation.speculate",
    "early stop of texts": "stop strings",
    "everything, texts": "cache, batches, refilling, early stop",
    "overlap": "benchmark.code.overlap",
    "two workers": "sandbox.workers",
    "everything, code benchmark": "those of texts, overlap, two workers",
    "verdict cache": "benchmark.code.verdict_cache",
    "response cache": "responses.mode",
    "one load": "none: a cell loads once (off: a process per question)",
}


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The options of the ablation."""

    pairs: int = least(1)  # turns of on and off
    questions: int = least(8)
    texts: int = least(1)  # of each kind
    loads: int = least(0)  # questions, and processes, of the switch "one load"; 0 leaves it out
    only: str | None = None  # switches whose name contains this text


class Ablation(Switched[AblationConfig]):
    """Each switch of the evaluation core, on and off."""

    name = "ablation"
    title = "ablation"
    data = "the bundled data"
    measures = "the factor that each switch of the evaluation core gives"
    position = 95
    version = 2
    Config = AblationConfig

    switches = SWITCHES
    heading = "What each switch of the evaluation core gives"
    conditions = "The bundled model and data, on against off in turns in one process."

    @override
    def options(self, config: AblationConfig) -> tuple[int, str | None, JsonObject]:
        return (
            config.pairs,
            config.only,
            {name: getattr(config, name) for name in ("pairs", "questions", "texts", "loads")},
        )

    @override
    @contextmanager
    def opened(self, bench: Bench, config: AblationConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.switches import Switches

        yield Opened(Switches(bench, config).all())


TASK = Ablation()
