"""What can be configured, as frozen dataclasses: what a key may hold stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from typing_extensions import override

from runtime_matrix.experiments.monitoring.registry import installed
from runtime_matrix.experiments.plain_json import JsonObject
from runtime_matrix.experiments.strict import among, least, outside_identity, version_of, versioned


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    name: str
    dtype: str = among("float32", "bfloat16", "float16")
    engine: JsonObject  # name, target, and the options of that engine's constructor
    weights: JsonObject  # name, target, and the options of those weights
    placement: JsonObject

    @property
    def title(self) -> str:
        """Return the preset's name, with the weights where they are not the preset's own."""
        name = str(self.weights["name"])
        title = self.name if name in ("full", self.name) else f"{self.name}+{name}"
        bits = self.weights.get("bits")
        return title if bits in (None, self.weights.get("named_bits")) else f"{title}{bits}"


@dataclass(frozen=True, kw_only=True)
class RequirementsConfig:
    """What must be there for a profile to be true. None and 0: nothing."""

    device_name: str | None  # a part of the name that the driver gives
    memory_gb: float | None = least(0)  # as the maker states it; the driver shows a tenth less
    devices: int = least(0)
    without: tuple[str, ...] | None = None  # parts of the names of other cards, which these facts are not of


@dataclass(frozen=True, kw_only=True)
class HwFacts:
    """What the maker states of one device; None where it is not known or depends on the machine."""

    compute_capability: str | None  # of CUDA, such as 8.0
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

    @property
    def advice(self) -> str:
        """Return the words to run with these settings, and what they ask for beside; empty where nothing is known."""
        words = {"runtime.dtype=": self.dtype, "runtime/weights=": self.weights, "benchmark.latency.batch=": self.batch}
        limits = {" tokens a sequence": self.max_tokens, " GiB of a device": self.max_memory_gib}
        given = " ".join(f"{key}{value}" for key, value in words.items() if value is not None)
        most = " and ".join(f"{value:g}{what}" for what, value in limits.items() if value is not None)
        return given + (f", with at most {most}" if most else "")


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
    architecture: JsonObject | None
    seed: int = least(0, most=2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    enabled: bool
    token_ids: int = least(1)
    continuations: int = least(1)


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
    iterations: int = least(1, most=100_000)
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
    fields: dict[str, str]
    shots: int = least(0)
    style: str = among("texts", "letters")
    normalise: str = among("bytes", "tokens", "none")
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class CodeConfig:
    data: str
    fields: dict[str, str]
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
    language: str = among("auto", "english", "unicode")
    limit: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class SummarizationConfig:
    data: str
    fields: dict[str, str]
    max_new_tokens: int = least(1)
    language: str = among("auto", "english", "unicode")
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
    token_budget: int = least(1, default=16384)
    refill: bool = True
    read_every: int | None = least(1, default=None)
    speculate: str = among("none", "lookup", "draft", default="none")
    draft_tokens: int = least(1, default=4)
    draft_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResponsesConfig:
    """Whether what a runtime answered is kept, and used again. Benchmarks of time always run."""

    mode: str = among("never", "keep", "use")


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """How speed is compared: interleaved, in launches of fresh processes. None: not measured."""

    enabled: bool
    first_look: bool = outside_identity()
    launches: int | None = least(1)
    most_launches: int = least(2)
    width: float = least(0.001)
    rounds: int = least(2)
    seconds: float = least(0)
    warmup: int = least(1)
    batch: int = least(1)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: int = least(2)
    long_new_tokens: int | None = least(2)
    batched: int | None = least(2)
    extra_rounds: int = least(1)
    one_thread_rounds: int = least(0)
    one_thread_new_tokens: int = least(2)


@dataclass(frozen=True)
class MonitoringConfig:
    """The `Config` of each exporter by the exporter's name: where the results go while a sweep runs."""

    configs: Mapping[str, object]

    @classmethod
    def build_plain(cls, value: object, where: str) -> MonitoringConfig:
        """Return the configuration of the exporters that are installed. UserError as `strict.build` raises it."""
        return cls(installed().configs(value, where))

    @override
    def __reduce__(self) -> tuple[type[MonitoringConfig], tuple[dict[str, object]]]:
        # The process of a cell exports nothing: without this it would import every exporter beside what it measures.
        return type(self), ({},)


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    workers: int | None = least(1, most=1024, identity=False)
    cpu_s: int = least(1)
    wall_s: float = least(1)
    memory_mib: int = least(64)
    insist: bool
    bubblewrap: bool


@dataclass(frozen=True, kw_only=True)
class BenchmarksConfig:
    """None: not asked for. A version is raised when what the benchmark asks, cuts or scores changes."""

    latency: LatencyConfig | None = versioned(1)
    throughput: ThroughputConfig | None = versioned(1)
    memory: MemoryConfig | None = versioned(1)
    perplexity: PerplexityConfig | None = versioned(1)
    multiple_choice: MultipleChoiceConfig | None = versioned(1)
    code: CodeConfig | None = versioned(1)
    extractive_qa: ExtractiveQAConfig | None = versioned(1)
    summarization: SummarizationConfig | None = versioned(1)
    divergence: DivergenceConfig | None = versioned(1)
    ablation: AblationConfig | None = versioned(1)

    def chosen(self) -> list[str]:
        return [part.name for part in fields(self) if getattr(self, part.name) is not None]

    def versions(self) -> dict[str, int]:
        """Return the version of each benchmark that is asked for: figures of two versions are never compared."""
        return {part.name: version_of(part) for part in fields(self) if getattr(self, part.name) is not None}


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
    monitoring: MonitoringConfig = outside_identity()
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
