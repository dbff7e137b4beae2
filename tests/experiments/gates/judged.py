"""Records, launches and baselines that gates are tried on."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.axes import accuracy
from runtime_matrix.experiments.gates.axes.accuracy import BaselineScores
from runtime_matrix.experiments.gates.baseline import Baseline, baseline_type
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.judge import findings
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.speed_axis import BaselineSpeed
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.comparison import (
    SPEED_SCHEMA_VERSION,
    Block,
    Launch,
    PeakMemory,
    Repeated,
    Side,
    Speed,
    TimedTokens,
    Times,
)
from runtime_matrix.experiments.records.item import Item
from runtime_matrix.experiments.records.schema import Entry, Load, Record, Replay, to_plain
from tests.experiments.recorded import make_record

RUNTIME = {"weights": {"name": "full"}, "dtype": "float32"}
OPTIONS = {"batch": 1, "new_tokens": 4}
AGREEMENT: JsonObject = {
    **{"same_top_ratio": 1.0, "max_logit_difference": 1e-5, "positions": 92},
    **{"continuation_tokens": 384, "continuation_same_top": 384},
}
MIB = 2**20
_DECODE_S, _PREFILL_S = 0.002, 0.01


def gate(*words: str) -> GateConfig:
    made: GateConfig = build(GateConfig, compose_gate("ci", [f"gate.{word}" for word in words]), "gate")
    return made


def launches(slower: float, count: int = 20, noise: float = 0.01, grown: float = 0.0) -> list[Launch]:
    """Return launches as they are kept, by both clocks alike; the candidate's peak has grown by a share."""
    drawn, made = random.Random(1), []
    for _ in range(count):
        mine = (1 + slower) * math.exp(drawn.gauss(0, noise))
        block = Block(candidate=_side(mine), reference=_side(1.0), batch=1, prompt_tokens=[8] * 3)
        peak = round(100 * MIB * (1 + grown) * math.exp(drawn.gauss(0, 1e-3)))
        made.append(
            Launch(
                own=block,
                one_thread=block,
                long=None,
                batched=None,
                threads=2,
                device="cpu",
                tokens=TimedTokens(rows=6, same_rows=6, tokens=24, missing=0, forced=0, forced_top=0, max_gap=0.0),
                repeated=Repeated(fresh_s=[1.0], again_s=[1.0]),
                candidate_memory=PeakMemory(peak_host_bytes=peak),
                reference_memory=PeakMemory(peak_host_bytes=100 * MIB),
                machine=MachineChange(load_1min=0.0),
            )
        )
    return made


def _side(factor: float) -> Side:
    return Side(
        prefill=Times(wall_s=[factor * _PREFILL_S] * 3, cpu_s=[factor * _PREFILL_S] * 3),
        decode=Times(wall_s=[factor * _DECODE_S] * 3, cpu_s=[factor * _DECODE_S] * 3),
        steps_s=[[factor * _DECODE_S] * 3] * 3,
        rounds_cpu_s=1.0,
        between_cpu_s=0.0,
    )


def speed(slower: float = 0.0, **options: Any) -> Speed:
    return Speed(
        schema_version=SPEED_SCHEMA_VERSION,
        against="eager",
        options=OPTIONS,
        threads=2,
        token_rule="exact",
        launches=launches(slower, **options),
    )


def record(name: str) -> Record:
    made = make_record(name, is_reference=False)
    return structs.replace(
        made,
        config={"runtime": RUNTIME},
        load=Load(phases_s={"weights": 2.0}, weight_bytes=4 * MIB, dtype="float32", device="cpu"),
        benchmarks=[
            _entry("agreement", AGREEMENT),
            _entry("memory", {"peak_host_bytes": 100 * MIB, "peak_device_bytes": None}),
            _entry("latency", {"first_call_s": 1.0}),
            _entry("multiple_choice", {}, "items-multiple_choice.jsonl"),
            _entry("code", {"new_tokens": 500}, "items-code.jsonl"),
        ],
        replay=Replay(tokens=32, same_top_tokens=32, max_logprob_gap=0.0),
    )


def _entry(benchmark: str, figures: JsonObject, items_file: str | None = None) -> Entry:
    counters = {"graph_breaks": 0, "recompiles": 2}
    return Entry(benchmark=benchmark, status="ok", figures=figures, items_file=items_file, counters=counters)


def compared(measured: Measured, speed: Speed | None) -> Measured:
    """Return what was measured with another comparison of speed."""
    return replace(measured, result=replace(measured.result, speed=speed))


def changed(measured: Measured, **changes: Any) -> Measured:
    """Return what was measured with changed fields of its record."""
    return replace(measured, result=replace(measured.result, record=structs.replace(measured.result.record, **changes)))


def with_entry(measured: Measured, benchmark: str, **changes: Any) -> Measured:
    """Return what was measured with changed fields of a benchmark's entry."""
    entries = measured.result.record.benchmarks
    return changed(
        measured,
        benchmarks=[structs.replace(entry, **changes) if entry.benchmark == benchmark else entry for entry in entries],
    )


def write_items(folder: Path, lost: int = 0, n: int = 1000, probability_drop: float = 0.0) -> Path:
    """Answers to questions of which the first `lost` are wrong, and right with a probability that has dropped."""
    folder.mkdir(exist_ok=True)
    right = [math.log(0.7 - probability_drop), math.log(0.3 + probability_drop)]
    choices = [
        Item(id=f"q{i}", answer=0, predicted=int(i < lost), is_right=i >= lost, logprobs=right) for i in range(n)
    ]
    write_lines(folder / "items-multiple_choice.jsonl", choices)
    write_lines(folder / "items-code.jsonl", [Item(id=f"c{i}", sample=0, is_right=i % 2 == 0) for i in range(n)])
    return folder


def write_lines(path: Path, items: list[Item]) -> None:
    path.write_text("".join(json.dumps(to_plain(item)) + "\n" for item in items))


def baseline(**changes: Any) -> Baseline:
    items = {f"q{i}": 1.0 for i in range(1000)}
    earlier = {"decode": [0.01, -0.01] * 10, "prefill": [0.01, -0.01] * 10}
    new: Callable[..., Baseline] = baseline_type()
    made = new(
        schema_version=2,
        cell="mine",
        machine={},
        model_digest="d" * 32,
        asked={},
        memory={"weight_bytes": 4 * MIB, "peak_host_bytes": 100 * MIB},
        load={"load_s": 2.0, "first_call_s": 1.0},
        counts={"graph_breaks": 0, "recompiles": 2, "tokens": 500},
        speed=BaselineSpeed(log_ratios={"wall": earlier, "cpu": earlier}),
        peaks=[100 * MIB * (1 + share) for share in (0.001, -0.001) * 5],
        accuracy={"multiple_choice": BaselineScores(scores=items, probabilities=dict.fromkeys(items, 0.7))},
    )
    return structs.replace(made, **changes)


LIMITS = gate("reference.accuracy={multiple_choice: 0.03}", "baseline.accuracy={multiple_choice: 0.03}")
LIMITS = LIMITS.replaced(accuracy.REFERENCE, {"multiple_choice": 0.03})
LIMITS = LIMITS.replaced(accuracy.BASELINE, {"multiple_choice": 0.03})


def found(measured: Measured, limits: GateConfig = LIMITS) -> dict[str, LimitResult]:
    return {finding.name: finding for finding in findings(measured, limits, 0.99)}
