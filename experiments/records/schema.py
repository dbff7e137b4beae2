"""What a cell leaves behind, typed: its record, what comparing it found, and its row in the matrix.

Times are in seconds, sizes in bytes, shares between 0 and 1, as the ends of the names say. None is unknown. Records on
disk are JSON of these types; `migration.py` reads those of earlier versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.config.plain_json import JsonObject

SCHEMA_VERSION = 2  # 1 was read without types

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


T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return what `json.dumps` takes: dictionaries, lists and numbers."""
    return msgspec.to_builtins(value)


def typed(value: object, kind: type[T]) -> T:
    """Return plain JSON as the type `kind`. ValueError, with the path of the field, where it is none."""
    return msgspec.convert(value, kind, strict=True)
