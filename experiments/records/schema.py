"""What a cell leaves behind, typed: its record, what comparing it found, and its row in the matrix.

Times are in seconds, sizes in bytes, shares between 0 and 1, as the ends of the names say. None is unknown. Records on
disk are JSON of these types; `migration.py` reads those of earlier versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.statistics.interval import Interval

SCHEMA_VERSION = 2  # 1 was read without types
SPEED_SCHEMA_VERSION = 2  # 1: timed work that nobody checked, at one thread
OUTPUT_DIFF_SCHEMA_VERSION = 1

Status = Literal[
    "ok",
    "unsupported",  # by this machine or by a package that is installed
    "out_of_memory",
    "timeout",
    "crash",
    "error",
    "interrupted",
    "wrong output",  # the timed tokens are not the reference's
    "invalid timing",  # computed between the rounds, or remembered a prompt
]
FAILED: frozenset[Status] = frozenset(get_args(Status)) - {"ok", "unsupported", "interrupted"}
WRONG_OUTPUT: Literal["wrong output"] = "wrong output"
INVALID_TIMING: Literal["invalid timing"] = "invalid timing"
FAILED_TIMING = (WRONG_OUTPUT, INVALID_TIMING)
EntryStatus = Literal["ok", "skipped", "failed"]
StartKind = Literal["cold", "warm", "plain"]
Source = Literal["interleaved", "alone"]
Figures = dict[str, float | None]  # of a row, by key
TokenRule = Literal["exact", "share"]


# ---- the record ----------------------------------------------------------------------------------------------------


class RuntimeIdentity(Struct, frozen=True, kw_only=True):
    """Which runtime a cell ran."""

    name: str  # the preset's, with weights that are not its own: compile+torchao_int8
    engine: str
    weights: str
    placement: str
    dtype: str  # that was asked for; `Load.dtype` is what the engine computes in


class ModelIdentity(Struct, frozen=True, kw_only=True):
    """Which model."""

    name: str
    digest: str  # of the model's files
    title: str | None = None
    shape: ModelShape | None = None


class HardwareIdentity(Struct, frozen=True, kw_only=True):
    """The hardware profile and the threads that the runtime was given."""

    name: str
    threads: int
    device: str = "auto"


class Environment(Struct, frozen=True, kw_only=True):
    """What a measurement depends on besides its configuration. UNSET: a fact that the program did not record then."""

    hostname: str | None = None
    python: str | None = None
    platform: str | None = None
    processor: str | UnsetType | None = UNSET
    cores: int | UnsetType | None = UNSET  # that the process may run on
    cpu: dict[str, str | None] | UnsetType = UNSET  # vendor, family, model, stepping
    instruction_sets: list[str] | UnsetType = UNSET  # that oneDNN's products may use
    instruction_limits: dict[str, str] | UnsetType = UNSET  # environment variables that hold PyTorch back
    cpu_limit: float | UnsetType | None = UNSET  # CPUs' time at most, of the control group
    memory_limit_bytes: int | UnsetType | None = UNSET
    governor: str | UnsetType | None = UNSET
    memory_bytes: int | None = None
    gpus: list[dict[str, str]] = []  # in the driver's words
    versions: dict[str, str | None] = {}  # of packages, by distribution
    commit: str | None = None
    is_dirty: bool | None = None
    load_average: list[float] = []  # over 1, 5 and 15 minutes


class Code(Struct, frozen=True, kw_only=True):
    """Which code a cell ran."""

    digest: str
    versions: dict[str, str]


class Sweep(Struct, frozen=True, kw_only=True):
    """A cell's place in its sweep."""

    id: str
    cells: int
    index: int


class HeldWeights(Struct, frozen=True, kw_only=True):
    """How the weights of a cell are held, as the classes of its weights and its placement declare it."""

    form: str  # dense, packed or onnx: see `runtimes.base.Weights`
    keeps_values: bool  # rounding to the dtype is all that tells them from the stored ones
    is_whole: bool  # all of them lie on the device that computes

    @property
    def is_dense(self) -> bool:
        return self.form == "dense"


class Load(Struct, frozen=True, kw_only=True):
    """How the runtime was loaded, and what it declares of itself."""

    phases_s: dict[str, float]
    dtype: str
    device: str  # cpu or cuda
    import_s: float | None = None  # importing and pytest's collecting
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    import_bytes: int | None = None
    gained_host_bytes: int | None = None
    weight_bytes: int | None = None
    weight_disk_bytes: int | None = None
    artifacts: dict[str, float] = {}  # built, found, build_s
    held: HeldWeights | None = None  # None: the program did not record it then, see `Record.held`
    build_phases: list[str] | None = None  # of `phases_s`: those that make what later starts find; None: as `held`
    dtype_note: str | None = None
    notes: list[str] = []


class Entry(Struct, frozen=True, kw_only=True):
    """What one case of one benchmark found."""

    benchmark: str
    status: EntryStatus
    case: str = ""  # the grid point, see `point`
    reason: str | None = None
    parameters: JsonObject = {}
    samples: dict[str, list[float]] = {}  # raw times in s
    figures: JsonObject = {}  # see `figure`, `note` and `table`
    timed_tokens: JsonObject = {}
    items_file: str | None = None  # beside the record: one JSON line per item
    counters: dict[str, int] = {}  # of the runtime, when the case ended
    duration_s: float | None = None
    ended_at: float | None = None  # seconds since 1970

    @property
    def point(self) -> str:
        """The name of the grid point, such as b8-p64-n32; records of schema 2 before tasks had the test's name."""
        return self.case.partition("[")[2].rstrip("]") if "[" in self.case else self.case

    def figure(self, name: str) -> float | None:
        """Return a figure; None where it is unknown. TypeError for one that is no number."""
        value = self.figures.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise TypeError(f"{self.benchmark}.{name} is {type(value).__name__}, not a number")

    def note(self, name: str) -> str | None:
        value = self.figures.get(name)
        return None if value is None else str(value)

    def table(self, name: str) -> dict[str, float | None]:
        """Return a figure that has parts; empty where it is unknown."""
        value = self.figures.get(name)
        return dict(value) if isinstance(value, Mapping) else {}

    def parameter(self, name: str) -> float | None:
        value = self.parameters.get(name)
        return value if isinstance(value, int | float) else None


class HardwarePeak(Struct, frozen=True, kw_only=True):
    """What the machine did at most, measured in the same sweep."""

    copy_bytes_per_s: float | None = None  # read and written
    flops_per_s: dict[str, float] = {}  # by dtype
    wall_s: float | None = None
    threads: int | None = None
    device_name: str | None = None
    load_1min: float | None = None
    others_ratio: float | None = None  # of all CPUs' time: taken by other processes meanwhile
    steal_ratio: float | None = None
    cpu_mhz: float | None = None


class MemoryTrace(Struct, frozen=True, kw_only=True):
    """The resident memory of the measuring process."""

    samples: list[tuple[float, float]]  # seconds since its start, bytes


class Replay(Struct, frozen=True, kw_only=True):
    """Tokens of the latency benchmark, forced through the reference."""

    tokens: int
    same_top_tokens: int  # that the reference would choose too
    max_logprob_gap: float  # nats by which the reference's own choice was likelier, at most


class Fit(Struct, frozen=True, kw_only=True):
    """The token budget that fits into memory (batch=auto)."""

    token_budget: int
    bytes_per_token: float
    free_bytes: int
    margin: float
    was_capped: bool  # at what is useful, before memory was the bound


class OverlapShare(Struct, frozen=True, kw_only=True):
    """Items of a benchmark that share a passage with a text, as a share; None where the text is not known."""

    items: int
    calibration: float | None = None
    training: float | None = None


class Overlap(Struct, frozen=True, kw_only=True):
    """Test items beside the calibration text and the training text."""

    benchmarks: dict[str, OverlapShare]
    words: int | None = None  # of a passage
    calibration_data: str | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """A job of a cell that failed."""

    reason: str | None = None
    job: str | None = None
    status: str | None = None


class CellIdentity(Struct, frozen=True, kw_only=True):
    """What is known of a cell before it is measured: the first line of its journal."""

    run_id: str
    record_id: str  # the name of its folder
    started_at: str  # UTC, ISO 8601
    runtime: RuntimeIdentity
    model: ModelIdentity
    hw: HardwareIdentity
    config: JsonObject  # resolved; `strict.identity_of` tells the part that decides figures
    config_hash: str
    environment: Environment
    environment_hash: str
    is_reference: bool
    command: str  # measures this cell again
    benchmark_versions: dict[str, int] = {}
    code: Code | None = None
    launch: str | None = None  # fork or exec
    sweep: Sweep | None = None


class Record(CellIdentity, frozen=True, kw_only=True):
    """What a cell leaves, whatever happened. Never rewritten; what comparing it found lies beside it."""

    schema_version: int
    status: Status
    reason: str | None
    load: Load | None
    benchmarks: list[Entry]
    replay: Replay | None
    exit_code: int | None = None
    finished_at: str | None = None
    hardware_peak: HardwarePeak | None = None
    jobs: dict[str, float] = {}  # wall seconds of each process, from start to end
    memory_trace: MemoryTrace | None = None
    fit: Fit | None = None
    overlap: Overlap | None = None
    failures: list[Failure] = []

    def entries(self) -> dict[str, Entry]:
        """Return the first grid point of each benchmark, where it succeeded: a later one never stands for it."""
        first: dict[str, Entry] = {}
        for entry in self.benchmarks:
            first.setdefault(entry.benchmark, entry)
        return {name: entry for name, entry in first.items() if entry.status == "ok"}

    def further_entries(self, benchmark: str) -> list[Entry]:
        """Return the grid points of a benchmark behind its first one that succeeded."""
        points = [entry for entry in self.benchmarks if entry.benchmark == benchmark]
        return [entry for entry in points[1:] if entry.status == "ok"]

    def held(self) -> HeldWeights:
        """Return how the weights were held; of a record that does not say, what names meant when it was written."""
        if self.load is not None and self.load.held is not None:
            return self.load.held
        is_full, is_whole = self.runtime.weights == "full", self.runtime.placement == "device"
        return HeldWeights(form="dense" if is_full else "packed", keeps_values=is_full, is_whole=is_whole)

    def agreement_figures(self) -> Entry | None:
        return next((entry for entry in self.benchmarks if entry.benchmark == "agreement"), None)


# ---- what comparing it found ---------------------------------------------------------------------------------------


class Times(Struct, frozen=True, kw_only=True):
    """Seconds, one for each round."""

    wall_s: list[float]
    cpu_s: list[float]


class Side(Struct, frozen=True, kw_only=True):
    """The rounds of one cell in a block."""

    prefill: Times
    decode: Times  # the mean of a round's steps
    steps_s: list[list[float]]  # [round][token after the first], wall
    rounds_cpu_s: float
    between_cpu_s: float  # between the rounds, where nothing is to be computed
    recompiles: int | None = None


class Block(Struct, frozen=True, kw_only=True):
    """Rounds of one shape, in which the two cells took turns."""

    candidate: Side
    reference: Side
    batch: int
    prompt_tokens: list[int]  # one for each round

    def side(self, name: Literal["candidate", "reference"]) -> Side:
        return self.candidate if name == "candidate" else self.reference


class TimedTokens(Struct, frozen=True, kw_only=True):
    """How the timed tokens of a cell compare with the reference's of the same rounds."""

    tokens: int
    missing: int
    forced: int  # through the reference
    forced_top: int  # that it would choose too
    max_gap: float  # nats by which its own choice was likelier, at most
    rows: int = 0
    same_rows: int = 0


class Repeated(Struct, frozen=True, kw_only=True):
    """Wall seconds of rounds whose prompts came before, and of the same rounds when they were new."""

    fresh_s: list[float]
    again_s: list[float]


class PeakMemory(Struct, frozen=True, kw_only=True):
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None


class Launch(Struct, frozen=True, kw_only=True):
    """One set of fresh processes: a cell's rounds and the reference's."""

    own: Block | None  # at the cell's own threads
    long: Block | None  # of longer texts
    batched: Block | None
    one_thread: Block | None
    candidate_memory: PeakMemory
    reference_memory: PeakMemory
    threads: int
    device: str  # cpu or cuda
    machine: MachineChange
    tokens: TimedTokens | None = None
    repeated: Repeated | None = None
    seed: str | None = None

    def blocks(self) -> dict[str, Block]:
        """Return the blocks that were measured, by name."""
        named = {"own": self.own, "long": self.long, "batched": self.batched, "one_thread": self.one_thread}
        return {name: block for name, block in named.items() if block is not None}


class Speed(Struct, frozen=True, kw_only=True):
    """The interleaved comparison of a cell with its reference."""

    schema_version: int
    against: str  # the reference's record_id
    options: JsonObject  # `ComparisonConfig`, as it was
    threads: int
    token_rule: TokenRule
    launches: list[Launch]
    reason: str | None = None  # why there are not more launches
    interleaved: str | None = None
    launch: str | None = None  # fork or exec


class BenchmarkDiff(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outputs of one benchmark beside the reference's, item by item."""

    items: int
    score: str  # the field of an item that says what its answer is worth
    score_difference: Interval | None = None  # above 0: better than the reference
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    flips: Interval | None = None
    p_value: float | None = None
    p_value_holm: float | None = None
    right_choice_probability_difference: Interval | None = None
    changed_answers: Interval | None = None
    calibration_error: float | None = None
    reference_calibration_error: float | None = None
    calibration_error_difference: float | None = None
    max_logprob_difference: float | None = None
    suspicious_items: list[Any] | None = None  # changed by more than rounding explains
    same_texts: Interval | None = None
    different_items: list[Any] | None = None
    first_divergence_tokens_p50: int | None = None
    perplexity_ratio: Interval | None = None


class OutputDiff(Struct, frozen=True, kw_only=True):
    """The outputs of a cell beside its reference's."""

    schema_version: int
    against: str  # the reference's record_id
    benchmarks: dict[str, BenchmarkDiff]
    reasons: dict[str, str] = {}  # by benchmark: why it cannot be compared
    reason: str | None = None


@dataclass(frozen=True)
class Result:
    """A record, its folder, and what comparing it found."""

    record: Record
    folder: Path
    speed: Speed | None = None
    diff: OutputDiff | None = None
    speed_problem: str | None = None  # why the comparison of speed that lies beside the record cannot be read


# ---- the row -------------------------------------------------------------------------------------------------------


class Row(Struct, frozen=True, kw_only=True):
    """One row of the matrix. Figures are read by their key: `row["speedup_ratio"]`; KeyError for an unknown one."""

    run_id: Annotated[str, Meta(description="The sweep.")]
    record_id: Annotated[str, Meta(description="The folder below results_dir.")]
    started_at: Annotated[str, Meta(description="UTC, ISO 8601.")]
    runtime: Annotated[str, Meta(description="Engine over weights in a placement.")]
    engine: Annotated[str, Meta(description="How it is executed.")]
    weights: Annotated[str, Meta(description="How weights are held.")]
    placement: Annotated[str, Meta(description="Where layers lie.")]
    dtype: Annotated[str, Meta(description="What the engine computes in.")]
    model: Annotated[str, Meta(description="The model that every cell of a run shares.")]
    model_title: Annotated[str, Meta(description="What the model is: kind, parameters, name.")]
    model_digest: Annotated[str, Meta(description="Of the model's files.")]
    hw: Annotated[str, Meta(description="The hardware profile.")]
    threads: Annotated[int, Meta(description="Given to every runtime alike.")]
    machine: Annotated[
        str, Meta(description="Digest of host, processor, instruction sets, cores, memory, limits and profile.")
    ]
    config_hash: Annotated[str, Meta(description="Of what the cell measures: the same over commits and dates.")]
    command: Annotated[str, Meta(description="Measures this cell again.")]
    is_reference: Annotated[bool, Meta(description="What others are compared with.")]
    status: Annotated[Status, Meta(description="What became of the cell.")]
    reason: Annotated[str | None, Meta(description="Why the status is not ok.")] = None
    variant: Annotated[
        str | None, Meta(description="What tells the row from others of the same runtime, model and hardware.")
    ] = None
    processor: Annotated[str | None, Meta(description="As the machine calls it.")] = None
    machine_description: Annotated[
        str | None, Meta(description="Processor, cores, widest vectors and what limits them.")
    ] = None
    commit: Annotated[str | None, Meta(description="Of this program.")] = None
    against: Annotated[str | None, Meta(description="The record that answers were compared with.")] = None
    latency_source: Annotated[
        Source | None,
        Meta(description="interleaved: times of launches in which cells took turns; alone: of the cell by itself."),
    ] = None
    price_source: Annotated[
        Source | None,
        Meta(description="interleaved: from the rate of the interleaved batches; alone: of the offline benchmark."),
    ] = None
    start_kind: Annotated[
        StartKind | None,
        Meta(
            description="cold: something was built or compiled; warm: all of that was found in the cache; plain: "
            "nothing to build."
        ),
    ] = None
    dtype_note: Annotated[str | None, Meta(description="Where products in the dtype are emulated: at which rate.")] = (
        None
    )
    speedup_reason: Annotated[str | None, Meta(description="Why there is no speedup.")] = None
    cpu_speedup_reason: Annotated[str | None, Meta(description="Why CPU time does not stand for the cell's speed.")] = (
        None
    )
    speed_note: Annotated[
        str | None, Meta(description="Why wall time and CPU time disagree beyond both intervals.")
    ] = None
    peak_note: Annotated[
        str | None,
        Meta(
            description="How to read the shares of the hardware peak, where they are above 100 % or it was under load."
        ),
    ] = None
    energy_reason: Annotated[str | None, Meta(description="Why no energy is known.")] = None
    sandbox_note: Annotated[str | None, Meta(description="What the machine did not keep generated programs from.")] = (
        None
    )
    cache_note: Annotated[str | None, Meta(description="What was wrong with kept answers or verdicts.")] = None
    figures: Figures = {}

    def __getitem__(self, key: str) -> float | None:
        return self.figures[key]

    def get(self, key: str) -> float | None:
        return self.figures.get(key)

    def interval(self, key: str) -> tuple[float, float, float] | None:
        """Return a figure with its bounds; None where one of them is unknown."""
        return interval_in(self.figures, key)

    def flat(self) -> dict[str, str | float | bool | None]:
        """Return the row as it is published: its own fields and its figures side by side."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "figures"}
        return {**own, **self.figures}


def interval_in(figures: Figures, key: str) -> tuple[float, float, float] | None:
    """Return a figure with its bounds; None where one of them is unknown."""
    value, low, high = (figures.get(f"{key}{end}") for end in ("", "_low", "_high"))
    return None if value is None or low is None or high is None else (value, low, high)


# ---- plain JSON ----------------------------------------------------------------------------------------------------

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return what `json.dumps` takes: dictionaries, lists and numbers."""
    return msgspec.to_builtins(value)


def typed(value: object, kind: type[T]) -> T:
    """Return plain JSON as the type `kind`. ValueError, with the path of the field, where it is none."""
    return msgspec.convert(value, kind, strict=True)
