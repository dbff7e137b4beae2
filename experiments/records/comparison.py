"""What comparing a cell with its reference found, typed: launches of both, and outputs item by item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval

SPEED_SCHEMA_VERSION = 2  # 1: timed work that nobody checked, at one thread
OUTPUT_DIFF_SCHEMA_VERSION = 1
TokenRule = Literal["exact", "share"]


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
