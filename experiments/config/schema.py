"""The configuration as frozen dataclasses; each field states its valid values."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import Rule, among, least, outside_identity


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """An engine that executes weights in a placement."""

    name: str
    dtype: str = among("float32", "bfloat16", "float16")
    engine: JsonObject  # name, target, and the options of its constructor
    weights: JsonObject  # name, target, and the options of its constructor
    placement: JsonObject

    @property
    def title(self) -> str:
        """Return the preset's name, followed by weights or bits that differ from the preset's own."""
        name = str(self.weights["name"])
        title = self.name if name in ("full", self.name) else f"{self.name}+{name}"
        bits = self.weights.get("bits")
        return title if bits in (None, self.weights.get("named_bits")) else f"{title}{bits}"


@dataclass(frozen=True, kw_only=True)
class RequirementsConfig:
    """What a machine must have to match a hardware profile. None and 0 require nothing."""

    device_name: str | None  # a substring of the driver's name of the device
    memory_gb: float | None = least(0)  # as in the datasheet; the driver reports about 10 % less
    devices: int = least(0)
    without: tuple[str, ...] | None = None  # substrings of the names of other cards, to which these facts do not apply


@dataclass(frozen=True, kw_only=True)
class HwFacts:
    """The manufacturer's figures of one device; None if unknown or dependent on the machine."""

    compute_capability: str | None  # of CUDA, such as "8.0"
    bandwidth_gb_per_s: float | None = least(0)
    peak_tflops: dict[str, float] = least(0)  # by dtype, dense
    price_usd_per_hour: float | None = least(0)
    source: str | None


@dataclass(frozen=True, kw_only=True)
class RecommendedConfig:
    """Settings that are known to work; they are shown, and applied with `hw.apply=true`: see `recommended.py`."""

    dtype: str | None
    weights: str | None
    batch: int | None = least(1)
    max_tokens: int | None = least(1)
    max_memory_gib: float | None = least(0)
    placement: str | None = None  # for a model that does not fit on one device
    shards: int | None = least(2, default=None)  # for a model that fits on one device
    attention: str | None = None  # of engines that have the option

    @property
    def advice(self) -> str:
        """Return the overrides for these settings, and the limits to observe; empty if there are none."""
        words = {"runtime.dtype=": self.dtype, "runtime/weights=": self.weights, "batch_size=": self.batch}
        words |= {"runtime.engine.attention=": self.attention}
        limits = {" tokens per sequence": self.max_tokens, " GiB per device": self.max_memory_gib}
        overrides = " ".join(f"{key}{value}" for key, value in words.items() if value is not None)
        bounds = " and ".join(f"{value:g}{unit}" for unit, value in limits.items() if value is not None)
        devices = [
            f"runtime/placement={self.placement} for a model of several devices" if self.placement else "",
            f"shards={self.shards} hw.devices={self.shards} for one that fits on one" if self.shards else "",
        ]
        return "; ".join([overrides + (f", with at most {bounds}" if bounds else ""), *filter(None, devices)])


@dataclass(frozen=True, kw_only=True)
class ExpectedFigure:
    """A figure that a document expects, from `low` to `high`; it is the figure of a row times `scale`."""

    title: str
    low: float
    high: float
    unit: str | None = None
    figure: str | None = None  # key of the row; None: no row has it
    scale: float = 1.0
    claim: str  # id of the claim about the same number, in conf/claims


@dataclass(frozen=True, kw_only=True)
class ExpectedBy:
    """The document that expects the figures, and the model that they are of: a part of its name."""

    document: str
    model: str


@dataclass(frozen=True, kw_only=True)
class HwConfig:
    """A hardware profile. `threads` None: all cores that the process may use.

    `apply`: the recommended settings are applied; `applied` are those that were, as overrides.

    `devices`: shards are bound to so many GPUs, or on a CPU to so many groups of cores; None: they are not bound.
    """

    name: str
    device: str = among("auto", "cpu", "cuda")
    threads: int | None = least(1)
    devices: int | None = least(1, identity=False, default=None)
    requires: RequirementsConfig
    facts: HwFacts
    recommended: RecommendedConfig
    allow_mismatch: bool
    apply: bool = outside_identity(default=False)  # what is applied is part of the identity
    applied: tuple[str, ...] = Rule(may_be_empty=True, identity=False).field(default=())
    expected_by: ExpectedBy | None = outside_identity(default=None)
    expected: tuple[ExpectedFigure, ...] = Rule(may_be_empty=True, identity=False).field(default=())


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model: `path` is for local, `id` and `revision` for hub, `architecture` and `seed` for random.

    Of a local GGUF file, `tokenizer` is a folder that replaces its tokenizer, and `reference` the folder of the model
    that computes the reference's outputs, instead of the file's dequantized weights.
    """

    kind: str = among("bundled", "local", "hub", "random")
    path: str | None
    id: str | None
    revision: str | None
    architecture: JsonObject | None
    seed: int = least(0, most=2**63 - 1)
    tokenizer: str | None = None
    reference: str | None = None
    max_tokens: int | None = least(2, default=None)  # per row; texts beyond it are cut as at the model's own length


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """The check against the reference before timing, in greedy `token_ids` and forced `continuations`."""

    enabled: bool
    token_ids: int = least(1)
    continuations: int = least(1)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """The calibration text of quantization methods that need one; `tokens` are per sequence."""

    data: str
    sequences: int = least(1)
    tokens: int = least(2)


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """How continuations are scored. Each switch changes the time and no output."""

    token_budget: int | None = least(1, default=None)
    cache_budget: int = least(1, default=32768)
    sort_by_length: bool = True
    batch: bool = True
    share_prefix: bool = True
    share_question: bool = True
    batch_invariant: bool = False
    planning_window: int = least(1, default=2048)
    rows_by_length: dict[str, int] | None = least(1, default=None)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How texts are generated. No switch changes a greedy text."""

    token_budget: int = least(1, default=16384)
    refill: bool = True
    host_sync_interval: int | None = least(1, default=None)
    speculate: str = among("none", "lookup", "draft", default="none")
    draft_tokens: int = least(1, default=4)
    draft_model: str | None = None
    kv_cache: bool = True
    prefill_chunk: int | None = least(1, default=None)


@dataclass(frozen=True, kw_only=True)
class ResponsesConfig:
    """Whether responses are cached and reused. Timed benchmarks never use the cache."""

    mode: str = among("never", "keep", "use")


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """How speed is compared: interleaved, in launches of fresh processes. Blocks that are None are not measured."""

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
    serving_concurrency: int | None = least(1)
    serving_requests: int = least(2)
    serving_slices: int = least(1)
    observed_responses: int | None = least(1)


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """Limits per generated program. `workers` None: one per processor. `packages`: import names.

    Floor and ceiling are in calibrated units.
    """

    workers: int | None = least(1, most=1024, identity=False)
    early_stop: bool
    time_limits: str = among("adaptive", "fixed")
    time_multiple: float = least(1)
    time_floor: float = least(1)
    time_ceiling: float = least(1)
    cpu_s: int = least(1)
    wall_s: float = least(1)
    memory_mib: int = least(64)
    allow_unsafe: bool
    bubblewrap: bool
    packages: tuple[str, ...] = Rule(may_be_empty=True).field()
