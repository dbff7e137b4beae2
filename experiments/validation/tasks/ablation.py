"""The benchmark of the evaluation core's switches: on against off in turns, with the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.records.metric import Metric, hidden, part
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.records.switches import CLOCKS, switch_key
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Task

SWITCHES = {  # name: key of the configuration, in the order of the table
    "batched rows": "scoring.batch",
    "shared prefix": "scoring.share_prefix",
    "shared question": "scoring.share_question",
    "prefix, question and batches": "all three",
    "sorting by length": "scoring.sort_by_length",
    "token budget": "scoring.token_budget (off: 256)",
    "exact scores": "scoring.batch_invariant (on costs)",
    "key-value cache": "none: always on",
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
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The options of the ablation."""

    pairs: int = least(1)  # turns of on and off
    questions: int = least(8)
    texts: int = least(1)  # of each kind
    loads: int = least(0)  # questions, and processes, of the switch "one load"; 0 leaves it out
    only: str | None = None  # switches whose name contains this text


class Ablation(Task[AblationConfig]):
    """Each switch of the evaluation core, on and off."""

    name = "ablation"
    title = "ablation"
    data = "the bundled data"
    measures = "the factor that each switch of the evaluation core gives"
    position = 95
    version = 2
    Config = AblationConfig

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        """Return the keys of the factors of the switches that were measured, with their bounds."""
        names = [name for name in SWITCHES if name in entry.figures]
        return [f"{switch_key(name, clock)}{end}" for name in names for clock in CLOCKS for end in _ENDS]

    @override
    def further(self, key: str) -> Metric | None:
        """Return the metric of a switch's factor or of one of its bounds."""
        for name in SWITCHES:
            for clock in CLOCKS:
                for end in _ENDS:
                    if key == f"{switch_key(name, clock)}{end}":
                        return hidden(key, part(name, f"{clock}{end}"))
        return None

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: AblationConfig, point: str) -> None:
        from runtime_matrix.experiments.validation.ablation import measure, write_table
        from runtime_matrix.experiments.validation.switches import Switches

        switches = [switch for switch in Switches(bench, config).all() if (config.only or "") in switch.name]
        entry.parameters = {name: getattr(config, name) for name in ("pairs", "questions", "texts", "loads")}
        factors = {}
        for number, switch in enumerate(switches, start=1):
            result = measure(switch, config.pairs)
            factors[switch.name] = entry.figures[switch.name] = result.figures()
            entry.samples |= {f"{switch.name}: {side}": seconds for side, seconds in result.samples().items()}
            bench.report(number, len(switches))
        write_table(SWITCHES, factors, bench.folder / "ablation.md", bench.command)


TASK = Ablation()
