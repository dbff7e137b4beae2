"""What can be configured, as frozen dataclasses, and their strict making from plain mappings.

Hydra's own checks let `+typo=1`, negative sizes and wrong elements of lists through; these do not.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from experiments.errors import UserError, did_you_mean


def _least(smallest: float, **kwargs: Any) -> Any:
    return field(metadata={"least": smallest}, **kwargs)


def _among(*words: str, **kwargs: Any) -> Any:
    return field(metadata={"among": words}, **kwargs)


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Weights or a placement: a name for now, and options of its own later."""

    name: str


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    name: str
    dtype: str = _among("float32", "bfloat16", "float16")
    engine: dict[str, Any]  # name, target, and the options of that engine's constructor
    weights: PartConfig
    placement: PartConfig


@dataclass(frozen=True, kw_only=True)
class HwConfig:
    name: str
    device: str = _among("auto", "cpu", "cuda")
    threads: int | None = _least(1)
    requires_device_name: str | None
    requires_memory_gib: float | None = _least(0)
    allow_mismatch: bool


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    kind: str = _among("bundled", "local", "hub", "random")
    path: str | None
    id: str | None
    revision: str | None
    architecture: dict[str, Any] | None
    seed: int = _least(0)


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    enabled: bool
    token_ids: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    token_budget: int = _least(1)
    sort_by_length: bool = True


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    batch: tuple[int, ...] = _least(1)
    prompt_tokens: tuple[int, ...] = _least(1)
    new_tokens: tuple[int, ...] = _least(1)
    iterations: int = _least(1)
    warmup: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    requests: int = _least(1)
    prompt_tokens: tuple[int, ...] = _least(1)
    new_tokens: int = _least(1)
    token_budget: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    batch: int = _least(1)
    prompt_tokens: int = _least(1)
    new_tokens: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig:
    data: str
    max_bytes: int | None = _least(1)
    window: int = _least(2)
    stride: int | None = _least(1)
    limit: int | None = _least(1)


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig:
    data: str
    shots: int = _least(0)
    style: str = _among("texts", "letters")
    normalise: str = _among("bytes", "tokens", "none")
    limit: int | None = _least(1)


@dataclass(frozen=True, kw_only=True)
class CodeConfig:
    data: str
    solutions: str
    samples: int = _least(1)
    k: tuple[int, ...] = _least(1)
    temperature: float = _least(0)
    top_p: float = _least(0.001)
    max_new_tokens: int = _least(1)
    limit: int | None = _least(1)
    overlap: bool
    verdict_cache: bool


@dataclass(frozen=True, kw_only=True)
class ExtractiveQAConfig:
    data: str
    max_new_tokens: int = _least(1)
    limit: int | None = _least(1)


@dataclass(frozen=True, kw_only=True)
class SummarizationConfig:
    data: str
    max_new_tokens: int = _least(1)
    limit: int | None = _least(1)


@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    data: str
    window: int = _least(2)
    tokens: int = _least(1)
    max_mib: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    token_budget: int = _least(1)
    refill: bool


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """How speed is compared: interleaved, in launches of fresh processes."""

    enabled: bool
    launches: int | None = _least(1)
    most_launches: int = _least(2)
    width: float = _least(0.001)
    rounds: int = _least(2)
    warmup: int = _least(1)
    batch: int = _least(1)
    prompt_tokens: int = _least(1)
    new_tokens: int = _least(2)
    threads: int = _least(1)


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    workers: int | None = _least(1)
    cpu_s: int = _least(1)
    wall_s: float = _least(1)
    memory_mib: int = _least(64)
    insist: bool
    bubblewrap: bool


@dataclass(frozen=True, kw_only=True)
class BenchmarksConfig:
    """None: not asked for."""

    latency: LatencyConfig | None = None
    throughput: ThroughputConfig | None = None
    memory: MemoryConfig | None = None
    perplexity: PerplexityConfig | None = None
    multiple_choice: MultipleChoiceConfig | None = None
    code: CodeConfig | None = None
    extractive_qa: ExtractiveQAConfig | None = None
    summarization: SummarizationConfig | None = None
    divergence: DivergenceConfig | None = None

    def chosen(self) -> list[str]:
        return [part.name for part in fields(self) if getattr(self, part.name) is not None]


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Everything that decides what a cell measures, and how it is run."""

    runtime: RuntimeConfig
    reference: RuntimeConfig
    hw: HwConfig
    model: ModelConfig
    benchmark: BenchmarksConfig
    agreement: AgreementConfig
    scoring: ScoringConfig
    generation: GenerationConfig
    sandbox: SandboxConfig
    comparison: ComparisonConfig
    seed: int = _least(0)
    results_dir: str
    artifacts_dir: str
    resume: bool
    time_limit_s: float = _least(0.1)
    launch: str = _among("fork", "exec")
    progress: bool


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value` as the type `kind`. UserError names the key that is unknown, missing, mistyped or out of range."""
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else build(inner[0], value, where)
    if origin is tuple:
        elements = value if isinstance(value, list) else [value]
        if not elements:
            raise UserError(f"{where} is an empty list: give at least one value")
        return tuple(build(inner[0], element, where) for element in elements)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} must be of the type {kind.__name__}; found {value!r}")
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{where or 'the configuration'} must be a mapping; found {value!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            raise UserError(f"{prefix}{key} is not a known key{did_you_mean(str(key), hints)}")
    made = {}
    for part in fields(kind):
        if part.name in value:
            made[part.name] = build(hints[part.name], value[part.name], prefix + part.name)
            _check_range(made[part.name], part.metadata, prefix + part.name)
        elif part.default is MISSING:
            raise UserError(f"{prefix}{part.name} is missing: set {prefix}{part.name}=…")
    return kind(**made)


def _check_range(value: Any, rule: Mapping[str, Any], where: str) -> None:
    for element in value if isinstance(value, tuple) else [value]:
        if element is None:
            continue
        if "least" in rule and element < rule["least"]:
            raise UserError(f"{where} must be at least {rule['least']}; found {element}")
        if "among" in rule and element not in rule["among"]:
            raise UserError(f"{where}={element} is unknown{did_you_mean(str(element), rule['among'])}")
