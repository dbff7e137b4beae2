"""The benchmark of shards: items per hour with several processes, and what an interruption costs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule, least
from runtime_matrix.experiments.records.metric import Metric, figure, hidden
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Task

_ENDS = ("", "_low", "_high")
# Of N shards of one thread each, against one process of one thread.
_OF_SHARDS = re.compile(r"shards_\d+_(speedup_ratio|efficiency_ratio|items_per_hour|merge_ratio)(_low|_high)?")
_FIGURES = (
    "data_parallel_ratio",  # N processes of one thread against one of N threads
    "killed_shard_cpu_ratio",
    "killed_shard_cpu_s",
    "stopped_run_cpu_ratio",
    "stopped_run_cpu_s",
    "spot_gain_ratio",
)


@dataclass(frozen=True, kw_only=True)
class ShardScalingConfig:
    """The options of the benchmark of shards."""

    rounds: int = least(1)  # each number of shards once per round
    interruptions: int = least(0)  # of each kind
    limit: int | None = least(2)  # items of each benchmark
    samples: int = least(1)  # programs per problem
    spot_price_factor: float = least(1)
    overrides: tuple[str, ...] = Rule(may_be_empty=True).field()  # of each command


class ShardScaling(Task[ShardScalingConfig]):
    """Our own command with different numbers of shards, in turns."""

    name = "shard_scaling"
    title = "shard scaling"
    data = "the bundled questions, texts and problems"
    measures = "items per hour with several processes, the cost of merging, and of an interruption"
    position = 99
    Config = ShardScalingConfig
    metrics = tuple(hidden(f"{name}{end}", figure(f"{name}{end}")) for name in _FIGURES for end in _ENDS)

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        return [name for name in entry.figures if _OF_SHARDS.fullmatch(name)]

    @override
    def further(self, key: str) -> Metric | None:
        """Return the metric of a figure of so many shards, or of one of its bounds."""
        return hidden(key, figure(key)) if _OF_SHARDS.fullmatch(key) else None

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: ShardScalingConfig, point: str) -> None:
        from runtime_matrix.experiments.validation.shard_scaling import measure

        measure(bench, entry, config, len(os.sched_getaffinity(0)))


TASK = ShardScaling()
