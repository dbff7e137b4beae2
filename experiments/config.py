"""What can be configured, as frozen dataclasses, and their strict making from plain mappings.

Hydra's own checks let `+typo=1`, negative sizes and wrong elements of lists through; these do not.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from experiments.errors import UserError, did_you_mean


def least(smallest: float, most: float | None = None, keys: Sequence[str] | None = None, **kwargs: Any) -> Any:
    """Return a field whose value, or each element of it, lies between; `keys` are the known ones of a mapping."""
    rule = {"least": smallest, "most": most, "keys": keys}
    return field(metadata={name: bound for name, bound in rule.items() if bound is not None}, **kwargs)


def among(*words: str, may_be_empty: bool = False, **kwargs: Any) -> Any:
    return field(metadata={"among": words, "may_be_empty": may_be_empty}, **kwargs)


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    name: str
    dtype: str = among("float32", "bfloat16", "float16")
    engine: dict[str, Any]  # name, target, and the options of that engine's constructor
    weights: dict[str, Any]  # name, target, and the options of those weights
    placement: dict[str, Any]

    @property
    def title(self) -> str:
        """Return the preset's name, with the weights where they are not the preset's own."""
        name = str(self.weights["name"])
        title = self.name if name in ("full", self.name) else f"{self.name}+{name}"
        bits = self.weights.get("bits")
        is_told = bits is None or name[-1].isdigit() or (name == self.name and bits == 4)
        return title if is_told else f"{title}{bits}"


@dataclass(frozen=True, kw_only=True)
class RequirementsConfig:
    """What must be there for a profile to be true. None and 0: nothing."""

    device_name: str | None  # a part of the name that the driver gives
    memory_gb: float | None = least(0)  # as the maker states it; the driver shows a tenth less
    devices: int = least(0)


@dataclass(frozen=True, kw_only=True)
class HwFacts:
    """What the maker states of one device; None where it is not known or depends on the machine."""

    bandwidth_gb_per_s: float | None = least(0)
    peak_tflops: dict[str, float] = least(0)  # by dtype, dense
    price_usd_per_hour: float | None = least(0)
    source: str | None


@dataclass(frozen=True, kw_only=True)
class RecommendedConfig:
    """Settings that are known to work; nothing follows them unasked."""

    dtype: str | None
    weights: str | None
    batch: int | None = least(1)
    max_tokens: int | None = least(1)
    max_memory_gib: float | None = least(0)


@dataclass(frozen=True, kw_only=True)
class HwConfig:
    name: str
    device: str = among("auto", "cpu", "cuda")
    threads: int | None = least(1)
    requires: RequirementsConfig
    facts: HwFacts
    recommended: RecommendedConfig
    allow_mismatch: bool


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    kind: str = among("bundled", "local", "hub", "random")
    path: str | None
    id: str | None
    revision: str | None
    architecture: dict[str, Any] | None
    seed: int = least(0)


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    enabled: bool
    token_ids: int = least(1)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """The text by which a method that needs one quantizes."""

    data: str
    sequences: int = least(1)
    tokens: int = least(2)


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """How continuations are scored; each switch changes the time and no answer."""

    token_budget: int | None = least(1, default=None)
    cache_budget: int = least(1, default=32768)
    sort_by_length: bool = True
    batch: bool = True
    share_prefix: bool = True
    share_stem: bool = True
    exact: bool = False
    chunk: int = least(1, default=2048)


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    batch: tuple[int, ...] = least(1)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: tuple[int, ...] = least(1)
    iterations: int = least(1)
    warmup: int = least(1)


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    requests: int = least(1)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: int = least(1)
    token_budget: int = least(1)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    batch: int = least(1)
    prompt_tokens: int = least(1)
    new_tokens: int = least(1)


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig:
    data: str
    max_bytes: int | None = least(1)
    window: int = least(2)
    stride: int | None = least(1)
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig:
    data: str
    shots: int = least(0)
    style: str = among("texts", "letters")
    normalise: str = among("bytes", "tokens", "none")
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class CodeConfig:
    data: str
    solutions: str
    samples: int = least(1)
    k: tuple[int, ...] = least(1)
    temperature: float = least(0)
    top_p: float = least(0.001)
    max_new_tokens: int = least(1)
    limit: int | None = least(1)
    overlap: bool
    verdict_cache: bool


@dataclass(frozen=True, kw_only=True)
class ExtractiveQAConfig:
    data: str
    max_new_tokens: int = least(1)
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class SummarizationConfig:
    data: str
    max_new_tokens: int = least(1)
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    data: str
    window: int = least(2)
    tokens: int = least(1)
    max_mib: int = least(1)


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    pairs: int = least(1)
    questions: int = least(8)
    texts: int = least(1)
    only: str | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    token_budget: int = least(1, default=8192)
    refill: bool = True
    speculate: str = among("none", "lookup", "draft", default="none")
    draft_tokens: int = least(1, default=4)
    draft_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResponsesConfig:
    """Whether what a runtime answered is kept, and used again. Benchmarks of time always run."""

    mode: str = among("never", "keep", "use")


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """How speed is compared: interleaved, in launches of fresh processes."""

    enabled: bool
    launches: int | None = least(1)
    most_launches: int = least(2)
    width: float = least(0.001)
    rounds: int = least(2)
    seconds: float = least(0)
    warmup: int = least(1)
    batch: int = least(1)
    prompt_tokens: int = least(1)
    new_tokens: int = least(2)
    threads: int = least(1)


@dataclass(frozen=True, kw_only=True)
class MonitoringConfig:
    """Whom a sweep tells what it finds. None: nobody."""

    prometheus_file: str | None
    prometheus_port: int | None = least(0, most=65535)
    mlflow: str | None


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    workers: int | None = least(1)
    cpu_s: int = least(1)
    wall_s: float = least(1)
    memory_mib: int = least(64)
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
    ablation: AblationConfig | None = None

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
    calibration: CalibrationConfig
    scoring: ScoringConfig
    generation: GenerationConfig
    responses: ResponsesConfig
    sandbox: SandboxConfig
    comparison: ComparisonConfig
    batch: str | None = among("auto")
    monitoring: MonitoringConfig
    seed: int = least(0)
    results_dir: str
    artifacts_dir: str
    artifacts_gib: float = least(0)
    resume: bool
    time_limit_s: float = least(0.1)
    stop_after_s: float | None = least(0)
    launch: str = among("fork", "exec")
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
        return tuple(build(inner[0], element, where) for element in elements)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        if inner[1] is Any:
            return dict(value)
        return {str(key): build(inner[1], element, f"{where}.{key}") for key, element in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} must be of the type {kind.__name__}; found {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{where} must be a number; found {value}")
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
    if value == () and not rule.get("may_be_empty"):
        raise UserError(f"{where} is an empty list: give at least one value")
    if isinstance(value, dict):
        parts = [(f"{where}.{key}", element) for key, element in value.items()]
        for key in value:
            if "keys" in rule and key not in rule["keys"]:
                raise UserError(f"{where}.{key} is not a known key{did_you_mean(key, rule['keys'])}")
    else:
        parts = [(where, element) for element in (value if isinstance(value, tuple) else [value])]
    for name, element in parts:
        if element is None:
            continue
        if "least" in rule and element < rule["least"]:
            raise UserError(f"{name} must be at least {rule['least']}; found {element}")
        if "most" in rule and element > rule["most"]:
            raise UserError(f"{name} must be at most {rule['most']}; found {element}")
        if "among" in rule and element not in rule["among"]:
            raise UserError(f"{name}={element} is unknown{did_you_mean(str(element), rule['among'])}")
