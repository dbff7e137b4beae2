"""What can be configured, as frozen dataclasses: what a key may hold stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import among, least, outside_identity


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
    share_question: bool = True
    batch_invariant: bool = False
    planning_window: int = least(1, default=2048)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    token_budget: int = least(1, default=16384)
    refill: bool = True
    host_sync_interval: int | None = least(1, default=None)
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
    ci_width: float = least(0.001)
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


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    workers: int | None = least(1, most=1024, identity=False)
    cpu_s: int = least(1)
    wall_s: float = least(1)
    memory_mib: int = least(64)
    allow_unsafe: bool
    bubblewrap: bool
