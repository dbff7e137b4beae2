"""A training step with and without gradient checkpointing, and the same forward pass without a backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.records.metric import NOT_INTERLEAVED, Metric, figure, hidden, number, with_interval
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Task
from runtime_matrix.experiments.tasks.training_pairs import measure
from runtime_matrix.runtimes.base import Unsupported

_MIB, _MS = 2**-20, 1000
_ENDS = ("", "_low", "_high")
_TURNS = "Both in turns in one process; above 1, checkpointing is faster."
_PEAK = "Peak memory of {}, weights and gradients included: without checkpointing, over that with it."
_ABOVE_LOADING = "above the level before loading, weights and gradients included; on the device if there is one"


@dataclass(frozen=True, kw_only=True)
class TrainingStepConfig:
    """Options of `training_step`. The first of `tokens` fills the matrix."""

    batch: int = least(1)
    tokens: tuple[int, ...] = least(2)  # per row; the first token has no loss
    rounds: int = least(2)  # of both sides


def _speed(pair: str, title: str, of: str, rank: int) -> tuple[Metric, ...]:
    """Return the metrics of a pair's speed by wall time, with a column if it has a title, and by CPU time."""
    column = Metric(
        key=f"training_{pair}_speed_ratio",
        title=title,
        group="speed",
        unit="×",
        rank=rank,
        display=with_interval("{:.2f}"),
        read=figure(f"{pair}_wall_speed_ratio"),
        about=f"Speed of {of} with gradient checkpointing over that without, by wall time. {_TURNS}",
    )
    ends = [hidden(f"training_{pair}_speed_ratio{end}", figure(f"{pair}_wall_speed_ratio{end}")) for end in _ENDS[1:]]
    by_cpu = [hidden(f"training_{pair}_cpu_speed_ratio{end}", figure(f"{pair}_cpu_speed_ratio{end}")) for end in _ENDS]
    return (column, *ends, *by_cpu)


def _memory(pair: str, title: str, of: str, rank: int) -> tuple[Metric, ...]:
    column = Metric(
        key=f"training_{pair}_memory_ratio",
        title=title,
        group="memory",
        unit="×",
        rank=rank,
        display=with_interval("{:.2f}"),
        read=figure(f"{pair}_memory_ratio"),
        about=_PEAK.format(of),
    )
    ends = [hidden(f"training_{pair}_memory_ratio{end}", figure(f"{pair}_memory_ratio{end}")) for end in _ENDS[1:]]
    return (column, *ends)


class TrainingStep(Task[TrainingStepConfig]):
    """Measures what gradient checkpointing saves and costs, with and without a backward pass."""

    name = "training_step"
    title = "training step"
    data = "random token ids"
    measures = "time and peak memory of a training step with and without gradient checkpointing, and of inference"
    position = 97
    Config = TrainingStepConfig
    metrics = (
        Metric(
            key="training_step_s",
            title="training step",
            unit="ms",
            group="latency",
            rank=6,
            better="low",
            display=number("{:,.0f}", _MS),
            read=figure("step_s"),
            is_of_machine=True,
            about=f"Median time of a forward and a backward pass without checkpointing. {NOT_INTERLEAVED}",
        ),
        *_speed("step", "checkpointed step", "a training step", 6),
        *_speed("inference", "checkpointed inference", "a forward pass in inference mode", 8),
        *_speed("forward", "checkpointed forward", "a forward pass that a backward pass could follow", 9),
        Metric(
            key="training_step_peak_bytes",
            title="training peak",
            unit="MiB",
            group="memory",
            rank=6,
            better="low",
            display=number("{:,.0f}", _MIB),
            read=figure("step_peak_bytes"),
            is_of_machine=True,
            about=f"Peak memory of a training step without checkpointing, {_ABOVE_LOADING}.",
        ),
        Metric(
            key="training_step_checkpointed_peak_bytes",
            title="checkpointed peak",
            unit="MiB",
            group="memory",
            rank=6,
            better="low",
            display=number("{:,.0f}", _MIB),
            read=figure("step_checkpointed_peak_bytes"),
            is_of_machine=True,
            about=f"Peak memory of a training step with gradient checkpointing, {_ABOVE_LOADING}.",
        ),
        *_memory("step", "memory by checkpointing", "a training step", 6),
        *_memory("inference", "memory by checkpointing in inference", "a forward pass in inference mode", 8),
        *_memory("forward", "memory by checkpointing, forward", "a forward pass that a backward pass could follow", 9),
        Metric(
            key="training_gradient_difference_ratio",
            title="Δ gradient",
            group="agreement",
            rank=8,
            display=number("{:.1e}"),
            read=figure("gradient_difference_ratio"),
            about="Of all weights the largest: norm of what checkpointing changes in the gradient, over its norm.",
        ),
        hidden("training_loss_ratio", figure("loss_ratio")),
        hidden("training_step_checkpointed_s", figure("step_checkpointed_s")),
    )

    @override
    def check_model(self, config: TrainingStepConfig, facts: ModelFacts) -> None:
        longest = max(config.tokens)
        if facts.max_length is not None and longest > facts.max_length:
            raise UserError(
                f"benchmark.{self.name}: rows of {longest} tokens exceed the model's context of {facts.max_length}: "
                f"lower benchmark.{self.name}.tokens"
            )

    @override
    def grid(self, config: TrainingStepConfig) -> Sequence[str]:
        return [f"b{config.batch}-t{tokens}" for tokens in dict.fromkeys(config.tokens)]

    @override
    def rows(self, config: TrainingStepConfig) -> int:
        return config.batch

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: TrainingStepConfig, point: str) -> None:
        tokens = int(point.rpartition("-t")[2])
        bench.require_rows(config.batch)
        entry.parameters = {"batch": config.batch, "tokens": tokens, "rounds": config.rounds}
        ids_BT = bench.random_prompts(config.batch, tokens)
        try:
            with bench.require_steps().training() as training:
                measure(bench, entry, training, ids_BT, config.rounds)
        except Unsupported as error:
            bench.skip(str(error))


TASK = TrainingStep()
