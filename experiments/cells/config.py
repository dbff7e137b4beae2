"""The configuration of a cell, with its chosen benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import (
    AgreementConfig,
    CalibrationConfig,
    ComparisonConfig,
    GenerationConfig,
    HwConfig,
    ModelConfig,
    ResponsesConfig,
    RuntimeConfig,
    SandboxConfig,
    ScoringConfig,
)
from runtime_matrix.experiments.config.validate import among, build, identity_of, least, outside_identity
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.launchers.registry import LauncherChoice
from runtime_matrix.experiments.strategies.registry import StrategyChoice
from runtime_matrix.experiments.tasks.registry import benchmarks, task_of
from runtime_matrix.experiments.tasks.task import Task

C = TypeVar("C")


@dataclass(frozen=True)
class BenchmarksConfig:
    """The chosen benchmarks with their options; `tasks.registry` has all benchmarks."""

    options: Mapping[str, Any] = field(default_factory=dict)  # by name: an instance of the benchmark's Config

    @classmethod
    def build_plain(cls, value: object, where: str) -> BenchmarksConfig:
        """Return the plain configuration as typed options; UserError for an unknown benchmark or option."""
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        chosen = {str(name): options for name, options in value.items() if options is not None}
        return cls({name: build(task_of(name).Config, options, f"{where}.{name}") for name, options in chosen.items()})

    @classmethod
    def identity_plain(cls, value: JsonObject) -> JsonObject:
        """Return the part of the plain configuration that affects figures."""
        known = benchmarks()  # records may name benchmarks of another installation
        return {
            name: identity_of(known[name].Config, options) if name in known and isinstance(options, dict) else options
            for name, options in value.items()
        }

    def chosen(self) -> list[str]:
        """Return the names of the chosen benchmarks in the order of the registry."""
        return [task.name for task, _ in self.items()]

    def items(self) -> Iterator[tuple[Task[Any], Any]]:
        """Yield each benchmark and its options, in the order of the registry."""
        yield from sorted(((task_of(name), config) for name, config in self.options.items()), key=_position)

    def of(self, task: Task[C]) -> C | None:
        """Return the options of a benchmark; None if it is not chosen."""
        config: C | None = self.options.get(task.name)
        return config

    def versions(self) -> dict[str, int]:
        """Return the version of each chosen benchmark; figures of different versions are never compared."""
        return {task.name: task.version for task, _ in self.items()}

    @property
    def use_hardware_peak(self) -> bool:
        """Whether a chosen benchmark relates its figures to the hardware peak."""
        return any(task.uses_hardware_peak for task, _ in self.items())

    def with_token_budget(self, tokens: int) -> BenchmarksConfig:
        """Return the configuration with this token budget in each benchmark that has one."""
        changed = {task.name: task.with_token_budget(config, tokens) for task, config in self.items()}
        return dataclasses.replace(self, options=changed)


def _position(pair: tuple[Task[Any], Any]) -> int:
    return pair[0].position


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """All options of a cell. Fields outside the identity change no figure."""

    runtime: RuntimeConfig
    reference: RuntimeConfig
    hw: HwConfig
    model: ModelConfig
    benchmark: BenchmarksConfig
    adapter: str = "none"  # a folder in PEFT's layout, or the name of a bundled adapter
    merge_adapter: bool | None = None  # None: beside the weights if the engine can hold it there, else merged
    agreement: AgreementConfig
    calibration: CalibrationConfig
    scoring: ScoringConfig
    generation: GenerationConfig
    responses: ResponsesConfig = outside_identity()
    sandbox: SandboxConfig
    strategy: StrategyChoice = field(default_factory=StrategyChoice)
    judge: JudgeChoice = field(default_factory=JudgeChoice)
    comparison: ComparisonConfig = outside_identity()  # stored with the speeds that it produced
    launcher: LauncherChoice = outside_identity(default_factory=LauncherChoice)
    batch: str | None = among("auto")
    batch_size: int | None = least(1, default=None)
    monitoring: JsonObject = outside_identity()  # validated by the installed exporters
    seed: int = least(0, most=2**63 - 1)
    limit: int | None = least(1, identity=False, default=None)  # these two become options of the benchmarks
    sample: int | None = least(1, identity=False, default=None)
    results_dir: str = outside_identity()
    artifacts_dir: str = outside_identity()
    artifacts_gib: float = least(0, identity=False)
    resume: bool = outside_identity()
    tries: int = least(1, identity=False)
    time_limit_s: float = least(0.1, identity=False)
    stop_after_s: float | None = least(0, identity=False)
    shards: int = least(1, identity=False, default=1)
    shard: int | None = least(0, identity=False, default=None)  # compute this shard alone
    launch: str = among("fork", "exec")
    progress: bool = outside_identity()
    fit: str = among("warn", "refuse", "ignore", identity=False, default="warn")
    retry: str = among("none", "halve", identity=False, default="none")
