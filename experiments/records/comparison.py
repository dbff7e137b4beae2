"""Types of a cell's comparison with its reference: interleaved launches, and outputs item by item.

Times are in seconds and sizes in bytes, as the names say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.audit import TimedAudit
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval

SPEED_SCHEMA_VERSION = 2  # 1: at one thread, and timed tokens were not checked
OUTPUT_DIFF_SCHEMA_VERSION = 1
TokenRule = Literal["exact", "share"]


class Times(Struct, frozen=True, kw_only=True):
    """Seconds, one value per round."""

    wall_s: list[float]
    cpu_s: list[float]


class Side(Struct, frozen=True, kw_only=True):
    """The rounds of one cell in a block."""

    prefill: Times
    decode: Times  # mean of the steps of a round
    steps_s: list[list[float]]  # [round][token after the first], wall time
    rounds_cpu_s: float
    between_cpu_s: float  # between rounds, when nothing should be computed
    recompiles: int | None = None
    busy_threads: float | None = None  # median over rounds of the threads that computed; None in earlier records


class Block(Struct, frozen=True, kw_only=True):
    """Interleaved rounds of one shape."""

    candidate: Side
    reference: Side
    batch: int
    prompt_tokens: list[int]  # one value per round
    reference_batch: int | None = None  # where it differs from the candidate's

    def side(self, name: Literal["candidate", "reference"]) -> Side:
        """Return the rounds of one of the two cells."""
        return self.candidate if name == "candidate" else self.reference

    def rows(self, name: Literal["candidate", "reference"]) -> int:
        """Return the rows of a batch of one of the two cells."""
        return self.batch if name == "candidate" or self.reference_batch is None else self.reference_batch


class ServedSlice(Struct, frozen=True, kw_only=True):
    """A load of one cell, a fixed number of requests in flight. Times have one value per request."""

    ttft_s: list[float]
    tpot_s: list[float]  # mean of the steps of a request
    e2e_s: list[float]
    duration_s: float
    new_tokens: int
    cpu_s: float


class ServedBlock(Struct, frozen=True, kw_only=True):
    """Interleaved slices of load."""

    candidate: list[ServedSlice]
    reference: list[ServedSlice]
    concurrency: int

    def side(self, name: Literal["candidate", "reference"]) -> list[ServedSlice]:
        """Return the slices of one of the two cells."""
        return self.candidate if name == "candidate" else self.reference


class ObservedBlock(Struct, frozen=True, kw_only=True):
    """Interleaved rounds of observing responses, as detection does; wall seconds, one per round."""

    candidate: list[float]
    reference: list[float]
    responses: int  # per round

    def side(self, name: Literal["candidate", "reference"]) -> list[float]:
        """Return the rounds of one of the two cells."""
        return self.candidate if name == "candidate" else self.reference


class TimedTokens(Struct, frozen=True, kw_only=True):
    """The timed tokens of a cell compared with the reference's in the same rounds."""

    tokens: int
    missing: int
    forced: int  # tokens scored by the reference
    forced_top: int  # forced tokens that are the reference's top token
    max_gap: float  # largest margin of the reference's top token over a forced token, in nats
    rows: int = 0
    same_rows: int = 0


class Repeated(Struct, frozen=True, kw_only=True):
    """Wall seconds of rounds with repeated prompts, and of the same rounds when the prompts were new.

    A prefill is compared with that of a new prompt of the same length, which is timed directly after.
    """

    fresh_s: list[float]
    again_s: list[float]
    new_prefill_s: list[float] = []
    again_prefill_s: list[float] = []


class PeakMemory(Struct, frozen=True, kw_only=True):
    """Peak memory of one cell in a launch; None is unknown."""

    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None


class ProcessCpu(Struct, frozen=True, kw_only=True):
    """CPU seconds of the processes of a launch and their children, from their start to the last order; None: unknown.

    A forked process has not imported torch: the server from which it was forked did.
    """

    candidate: float | None
    reference: float | None


class Launch(Struct, frozen=True, kw_only=True):
    """One launch: the rounds of a cell and of its reference in a pair of fresh processes."""

    own: Block | None  # at the cell's own threads
    long: Block | None  # longer texts
    batched: Block | None  # large batches
    one_thread: Block | None  # at one thread, for CPU time
    candidate_memory: PeakMemory
    reference_memory: PeakMemory
    threads: int
    device: str  # "cpu" or "cuda"
    machine: MachineChange
    tokens: TimedTokens | None = None
    repeated: Repeated | None = None
    seed: str | None = None
    audit: TimedAudit | None = None  # of the candidate; None in earlier records
    served: ServedBlock | None = None
    observed: ObservedBlock | None = None
    process_cpu_s: ProcessCpu | None = None  # None in earlier records

    def blocks(self) -> dict[str, Block]:
        """Return the measured blocks by name."""
        named = {"own": self.own, "long": self.long, "batched": self.batched, "one_thread": self.one_thread}
        return {name: block for name, block in named.items() if block is not None}


class Speed(Struct, frozen=True, kw_only=True):
    """The interleaved comparison of a cell with its reference."""

    schema_version: int
    against: str  # the reference's record_id
    options: JsonObject  # the `ComparisonConfig` of the measurement
    threads: int
    token_rule: TokenRule
    launches: list[Launch]
    reason: str | None = None  # why there are no more launches
    interleaved: str | None = None
    launch: str | None = None  # fork or exec


class BenchmarkDiff(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outputs of one benchmark compared with the reference's, item by item."""

    items: int
    score: str  # field of an item that holds its score
    score_difference: Interval | None = None  # above 0 is better than the reference
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
    """The outputs of a cell compared with its reference's."""

    schema_version: int
    against: str  # the reference's record_id
    benchmarks: dict[str, BenchmarkDiff]
    reasons: dict[str, str] = {}  # benchmark: why it cannot be compared
    reason: str | None = None


@dataclass(frozen=True)
class Result:
    """A record, its folder and its comparisons."""

    record: Record
    folder: Path
    speed: Speed | None = None
    diff: OutputDiff | None = None
    speed_problem: str | None = None  # why the record's speed.json cannot be read
    diff_problem: str | None = None  # why the record's output_diff.json cannot be read
