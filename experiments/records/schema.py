"""The types of a cell's record. `comparison.py` has those of its comparisons, `row.py` those of the matrix.

Suffixes of names give units: `_s` seconds, `_bytes` bytes, `_ratio` a share from 0 to 1. None is unknown. Records on
disk are JSON of these types; `migration.py` reads earlier versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.audit import Probe
from runtime_matrix.experiments.records.sharding import Sharding
from runtime_matrix.experiments.records.status import Status as Status

SCHEMA_VERSION = 2  # version 1 had no types

FAILED: frozenset[Status] = frozenset(get_args(Status)) - {"ok", "unsupported", "interrupted"}
WRONG_OUTPUT: Literal["wrong output"] = "wrong output"
INVALID_TIMING: Literal["invalid timing"] = "invalid timing"
FAILED_TIMING = (WRONG_OUTPUT, INVALID_TIMING)
EntryStatus = Literal["ok", "skipped", "failed"]


class RuntimeIdentity(Struct, frozen=True, kw_only=True):
    """Which runtime a cell ran."""

    name: str  # the preset, with other weights than its own appended: compile+torchao_int8
    engine: str
    weights: str
    placement: str
    dtype: str  # the requested dtype; `Load.dtype` is what the engine computes in


class AdapterIdentity(Struct, frozen=True, kw_only=True):
    """Which LoRA adapter a cell ran over its model."""

    name: str
    digest: str
    base_digest: str  # of the model without it
    rank: int
    parameters: int
    is_merged: bool | None = None  # as asked for; None: beside the weights where the engine can, see the load's notes


class ModelIdentity(Struct, frozen=True, kw_only=True):
    """Which model a cell ran."""

    name: str
    digest: str  # digest of the model's files, its adapter's included
    title: str | None = None
    shape: ModelShape | None = None
    adapter: AdapterIdentity | None = None


class HardwareIdentity(Struct, frozen=True, kw_only=True):
    """The hardware profile, the threads of the runtime and the requested device."""

    name: str
    threads: int
    device: str = "auto"


class Environment(Struct, frozen=True, kw_only=True):
    """The environment of a measurement. UNSET marks facts that an earlier version did not record."""

    hostname: str | None = None
    python: str | None = None
    platform: str | None = None
    processor: str | UnsetType | None = UNSET
    cores: int | UnsetType | None = UNSET  # cores that the process may run on
    cpu: dict[str, str | None] | UnsetType = UNSET  # vendor, family, model, stepping
    instruction_sets: list[str] | UnsetType = UNSET  # those that oneDNN's matrix products may use
    instruction_limits: dict[str, str] | UnsetType = UNSET  # environment variables that limit PyTorch
    cpu_limit: float | UnsetType | None = UNSET  # limit of the control group, in CPUs
    memory_limit_bytes: int | UnsetType | None = UNSET
    governor: str | UnsetType | None = UNSET
    memory_bytes: int | None = None
    gpus: list[dict[str, str]] = []  # values as the driver prints them
    versions: dict[str, str | None] = {}  # distribution: version
    commit: str | None = None
    is_dirty: bool | None = None
    load_average: list[float] = []  # over 1, 5 and 15 minutes


class Code(Struct, frozen=True, kw_only=True):
    """The code that a cell ran: a digest of its sources and the versions of the packages that they import."""

    digest: str
    versions: dict[str, str]


class Site(Struct, frozen=True, kw_only=True):
    """Where a launcher had a cell measured."""

    launcher: str
    node: str  # its host name
    cores: list[int]  # that the process may run on
    job: str | None = None  # of the scheduler
    has_whole_node: bool | None = None  # nothing else was scheduled on the node; None: not known


class Sweep(Struct, frozen=True, kw_only=True):
    """A cell's place in its sweep."""

    id: str
    cells: int
    index: int


class HeldWeights(Struct, frozen=True, kw_only=True):
    """The form of a cell's weights, as the classes of its weights and placement declare it."""

    form: str  # dense, packed, onnx or gguf: see `runtimes.base.Weights`
    keeps_values: bool  # the values equal the stored ones, up to rounding to the dtype
    is_whole: bool  # all weights are on the device that computes

    @property
    def is_dense(self) -> bool:
        """Return whether the weights are plain matrices, neither packed nor an ONNX graph."""
        return self.form == "dense"


class RankLoad(Struct, frozen=True, kw_only=True):
    """What one rank of a distributed model holds, and what it took to load it."""

    device: str  # such as cpu or cuda:1
    parameters: int
    weight_bytes: int
    peak_host_bytes: int | None = None  # resident memory above that after its imports
    peak_device_bytes: int | None = None  # that torch allocated


class Load(Struct, frozen=True, kw_only=True):
    """How the runtime was loaded, and what it declares about itself."""

    phases_s: dict[str, float]
    dtype: str
    device: str  # cpu or cuda
    import_s: float | None = None  # imports and pytest's collection
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    import_bytes: int | None = None
    gained_host_bytes: int | None = None
    weight_bytes: int | None = None  # of all ranks
    weight_disk_bytes: int | None = None
    kv_dtype: str | None = None  # type of the cached keys and values
    kv_bytes_per_token: int | None = None  # of the cache, for one row
    ranks: list[RankLoad] = []  # in their order; empty if one process holds the weights
    artifacts: dict[str, float] = {}  # keys: built, found, build_s
    held: HeldWeights | None = None  # None in records of earlier versions, see `Record.held`
    build_phases: list[str] | None = None  # phases whose results later starts find in the cache; None as for `held`
    dtype_note: str | None = None
    caches_prompts: bool = False
    batch_tokens: int | None = None  # rows × padded length of a batch of scoring, as the runtime prefers
    takes_whole_requests: bool = False  # the engine gives no logits, so that the agreement check does not apply
    notes: list[str] = []


class Entry(Struct, frozen=True, kw_only=True):
    """The result of one grid point of one benchmark."""

    benchmark: str
    status: EntryStatus
    case: str = ""  # name of the grid point, see `point`
    reason: str | None = None
    parameters: JsonObject = {}
    samples: dict[str, list[float]] = {}  # raw times in seconds
    figures: JsonObject = {}  # see `figure`, `note` and `table`
    timed_tokens: JsonObject = {}
    items_file: str | None = None  # file next to the record with one JSON line per item
    counters: dict[str, int] = {}  # the runtime's counters at the end
    duration_s: float | None = None
    ended_at: float | None = None  # seconds since 1970

    @property
    def point(self) -> str:
        """Return the name of the grid point, such as b8-p64-n32; early records of schema 2 have the test's name."""
        return self.case.partition("[")[2].rstrip("]") if "[" in self.case else self.case

    def figure(self, name: str) -> float | None:
        """Return a figure; None where it is unknown, TypeError if it is not a number."""
        value = self.figures.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise TypeError(f"{self.benchmark}.{name} is {type(value).__name__}, not a number")

    def note(self, name: str) -> str | None:
        """Return a figure that is a text; None where there is none."""
        value = self.figures.get(name)
        return None if value is None else str(value)

    @property
    def why_unscored(self) -> str | None:
        """Return why the items have no score although they were measured; None if they have one."""
        return self.note("unscored")

    def table(self, name: str) -> dict[str, float | None]:
        """Return a figure that is a table; empty where it is unknown."""
        value = self.figures.get(name)
        return dict(value) if isinstance(value, Mapping) else {}

    def parameter(self, name: str) -> float | None:
        """Return a numeric parameter of the case; None where there is none."""
        value = self.parameters.get(name)
        return value if isinstance(value, int | float) else None


class HardwarePeak(Struct, frozen=True, kw_only=True):
    """The measured peak of the machine, from the same sweep."""

    copy_bytes_per_s: float | None = None  # bytes read plus bytes written
    flops_per_s: dict[str, float] = {}  # by dtype
    wall_s: float | None = None
    threads: int | None = None
    device_name: str | None = None
    load_1min: float | None = None
    others_ratio: float | None = None  # share of all CPU time that other processes used meanwhile
    steal_ratio: float | None = None
    cpu_mhz: float | None = None


class MemoryTrace(Struct, frozen=True, kw_only=True):
    """The resident memory of the measuring process over time."""

    samples: list[tuple[float, float]]  # (seconds since its start, bytes)


class Replay(Struct, frozen=True, kw_only=True):
    """Tokens of the latency benchmark, scored by the reference."""

    tokens: int
    same_top_tokens: int  # tokens that are the reference's top token
    max_logprob_gap: float  # largest margin of the reference's top token over such a token, in nats


class Fit(Struct, frozen=True, kw_only=True):
    """The token budget that fits into memory (batch=auto)."""

    token_budget: int
    bytes_per_token: float
    free_bytes: int
    margin: float
    was_capped: bool  # larger batches would not be faster, although memory allows them


class SecondTry(Struct, frozen=True, kw_only=True):
    """Why a cell was measured again: the same one, with larger batches, ran out of memory."""

    first: str  # the record_id of the first try
    halved: str  # the options that were halved, as in `batch_size=4 instead of 8`


class MemoryEstimate(Struct, frozen=True, kw_only=True):
    """Peaks of the host's memory as estimated before anything was loaded: (lowest, highest), in bytes.

    As for measured peaks, what the process held after its imports does not count.
    """

    peak_bytes: tuple[int, int] | None  # of the benchmark `memory`, which measures the peak; None: not chosen
    cell_peak_bytes: tuple[int, int] | None  # of the largest load of fixed shape of all benchmarks; None: there is none
    is_validated: bool  # the model is as large as those for which the intervals were validated
    free_bytes: int | None = None  # that the machine could provide then

    @property
    def is_above_free(self) -> bool | None:
        """Return whether even the lowest estimate is above what was free; None if either is unknown."""
        if self.cell_peak_bytes is None or self.free_bytes is None:
            return None
        return self.cell_peak_bytes[0] > self.free_bytes


class Freed(Struct, frozen=True, kw_only=True):
    """The memory that the process gave back when its runtime was closed; None where it is unknown."""

    host_bytes: int | None = None
    device_bytes: int | None = None


class OverlapShare(Struct, frozen=True, kw_only=True):
    """Share of a benchmark's items that share a passage with a text; None if the text is not known."""

    items: int
    calibration: float | None = None
    training: float | None = None


class Overlap(Struct, frozen=True, kw_only=True):
    """Overlap of test items with the calibration text and the training text."""

    benchmarks: dict[str, OverlapShare]
    words: int | None = None  # length of a passage
    calibration_data: str | None = None


NO_STRATEGY = "none"  # each text is a program; records of before there were strategies have it too


class Failure(Struct, frozen=True, kw_only=True):
    """A job of a cell that failed."""

    reason: str | None = None
    job: str | None = None
    status: str | None = None


class CellIdentity(Struct, frozen=True, kw_only=True):
    """The facts of a cell that are known before it is measured: the first line of its journal."""

    run_id: str
    record_id: str  # the name of its folder
    started_at: str  # UTC, ISO 8601
    runtime: RuntimeIdentity
    model: ModelIdentity
    hw: HardwareIdentity
    config: JsonObject  # resolved; `config.validate.identity_of` selects what affects figures
    config_hash: str
    environment: Environment
    environment_hash: str
    is_reference: bool
    command: str  # the command that measures this cell again
    benchmark_versions: dict[str, int] = {}
    code: Code | None = None
    launch: str | None = None  # "fork" or "exec"
    sweep: Sweep | None = None
    site: Site | None = None  # None: measured by the command itself

    @property
    def strategy(self) -> str:
        """The name of the strategy for programs; records of hostile origin may have anything there."""
        strategy = self.config.get("strategy")
        return str(strategy.get("name", NO_STRATEGY)) if isinstance(strategy, dict) else NO_STRATEGY

    @property
    def max_tokens(self) -> int | None:
        """The tokens to which texts were cut; None: as many as the model takes."""
        model = self.config.get("model")
        limit = model.get("max_tokens") if isinstance(model, dict) else None
        return limit if isinstance(limit, int) else None


class Record(CellIdentity, frozen=True, kw_only=True):
    """The record of a cell, whatever happened. It is never rewritten; comparisons are separate files next to it."""

    schema_version: int
    status: Status
    reason: str | None
    load: Load | None
    benchmarks: list[Entry]
    replay: Replay | None
    probe: Probe | None = None  # of the process whose answers were scored, for the audit
    exit_code: int | None = None
    finished_at: str | None = None
    hardware_peak: HardwarePeak | None = None
    jobs: dict[str, float] = {}  # wall seconds of each process
    jobs_cpu_s: dict[str, float | None] = {}  # CPU seconds of each process and its children; empty in earlier records
    memory_trace: MemoryTrace | None = None
    fit: Fit | None = None
    overlap: Overlap | None = None
    freed: Freed | None = None
    failures: list[Failure] = []
    shards: Sharding | None = None  # None: nothing was sharded
    second_try: SecondTry | None = None  # None: the first try
    memory_estimate: MemoryEstimate | None = (
        None  # None: the runtime, its weights or its placement declare no footprint
    )

    def entries(self) -> dict[str, Entry]:
        """Return the first grid point of each benchmark if it succeeded; no later one replaces it."""
        first: dict[str, Entry] = {}
        for entry in self.benchmarks:
            first.setdefault(entry.benchmark, entry)
        return {name: entry for name, entry in first.items() if entry.status == "ok"}

    def further_entries(self, benchmark: str) -> list[Entry]:
        """Return the successful grid points of a benchmark after its first one."""
        points = [entry for entry in self.benchmarks if entry.benchmark == benchmark]
        return [entry for entry in points[1:] if entry.status == "ok"]

    def held(self) -> HeldWeights:
        """Return the form of the weights; for earlier records it is derived from the runtime's names."""
        if self.load is not None and self.load.held is not None:
            return self.load.held
        is_full, is_whole = self.runtime.weights == "full", self.runtime.placement == "device"
        return HeldWeights(form="dense" if is_full else "packed", keeps_values=is_full, is_whole=is_whole)

    def agreement_figures(self) -> Entry | None:
        """Return the entry of the logit check, whatever its status; None if it did not run."""
        return next((entry for entry in self.benchmarks if entry.benchmark == "agreement"), None)


T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return the value as dictionaries, lists, texts and numbers, for `json.dumps`."""
    return msgspec.to_builtins(value)


def typed(value: object, kind: type[T]) -> T:
    """Return plain JSON as the type `kind`; ValueError with the path of the field that does not fit."""
    return msgspec.convert(value, kind, strict=True)
