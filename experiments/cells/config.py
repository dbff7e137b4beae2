"""The whole configuration of a cell, and the benchmarks that it has chosen."""

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
from runtime_matrix.experiments.tasks.registry import benchmarks, task_of
from runtime_matrix.experiments.tasks.task import Task

C = TypeVar("C")


@dataclass(frozen=True)
class BenchmarksConfig:
    """The benchmarks that are chosen, with their options. Which ones there are is in the registry."""

    options: Mapping[str, Any] = field(default_factory=dict)  # by name: an instance of the benchmark's Config

    @classmethod
    def build_plain(cls, value: object, where: str) -> BenchmarksConfig:
        """Return the plain configuration as typed options; UserError for what no benchmark is, or takes."""
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        chosen = {str(name): options for name, options in value.items() if options is not None}
        return cls({name: build(task_of(name).Config, options, f"{where}.{name}") for name, options in chosen.items()})

    @classmethod
    def identity_plain(cls, value: JsonObject) -> JsonObject:
        """Return the part of the plain configuration that decides figures."""
        known = benchmarks()  # a record may name what another installation has
        return {
            name: identity_of(known[name].Config, options) if name in known and isinstance(options, dict) else options
            for name, options in value.items()
        }

    def chosen(self) -> list[str]:
        return [task.name for task, _ in self.items()]

    def items(self) -> Iterator[tuple[Task[Any], Any]]:
        """Yield each benchmark and its options, in the order of the registry."""
        yield from sorted(((task_of(name), config) for name, config in self.options.items()), key=_position)

    def of(self, task: Task[C]) -> C | None:
        """Return the options of a benchmark; None where it is not chosen."""
        config: C | None = self.options.get(task.name)
        return config

    def versions(self) -> dict[str, int]:
        """Return the version of each benchmark that is chosen: figures of two versions are never compared."""
        return {task.name: task.version for task, _ in self.items()}

    @property
    def use_hardware_peak(self) -> bool:
        return any(task.uses_hardware_peak for task, _ in self.items())

    def with_token_budget(self, tokens: int) -> BenchmarksConfig:
        changed = {task.name: task.with_token_budget(config, tokens) for task, config in self.items()}
        return dataclasses.replace(self, options=changed)


def _position(pair: tuple[Task[Any], Any]) -> int:
    return pair[0].position


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Everything that decides what a cell measures, and how it is run."""

    runtime: RuntimeConfig
    reference: RuntimeConfig
    hw: HwConfig
    model: ModelConfig
    benchmark: BenchmarksConfig
    agreement: AgreementConfig
    calibration: CalibrationConfig
    scoring: ScoringConfig
    generation: GenerationConfig
    responses: ResponsesConfig = outside_identity()
    sandbox: SandboxConfig
    comparison: ComparisonConfig = outside_identity()  # kept beside the speeds that it is of
    batch: str | None = among("auto")
    monitoring: JsonObject = outside_identity()  # of the exporters that are installed, which read it
    seed: int = least(0, most=2**63 - 1)
    results_dir: str = outside_identity()
    artifacts_dir: str = outside_identity()
    artifacts_gib: float = least(0, identity=False)
    resume: bool = outside_identity()
    tries: int = least(1, identity=False)
    time_limit_s: float = least(0.1, identity=False)
    stop_after_s: float | None = least(0, identity=False)
    launch: str = among("fork", "exec")
    progress: bool = outside_identity()
