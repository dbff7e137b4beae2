"""Records, launches and baselines that gates are tried on."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.compose import compose_gate
from runtime_matrix.experiments.gates.findings import Finding, Measured
from runtime_matrix.experiments.gates.judge import findings
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.strict import build

RUNTIME = {"weights": {"name": "full"}, "dtype": "float32"}

SHAPE = {
    **{"schema_version": 1, "run_id": "r", "hw": {"name": "cpu", "threads": 1}, "is_reference": False},
    **{"environment": {}, "config": {"runtime": RUNTIME}, "started_at": "2026-01-01T00:00:00+00:00", "command": ""},
}

MIB = 2**20


def gate(*words: str) -> GateConfig:
    made: GateConfig = build(GateConfig, compose_gate("ci", [f"gate.{word}" for word in words]), "gate")
    return made


def launches(slower: float, count: int = 20, noise: float = 0.01, grown: float = 0.0) -> list[dict[str, Any]]:
    """Return launches as they are kept, by both clocks alike; the candidate's peak has grown by a share."""
    drawn, made = random.Random(1), []
    for _ in range(count):
        mine = (1 + slower) * math.exp(drawn.gauss(0, noise))
        block = {"candidate": _side(mine), "reference": _side(1.0), "batch": 1, "prompt_tokens": [8] * 3}
        made.append(
            {
                **{"own": block, "one_thread": block, "long": None, "batched": None, "threads": 2, "device": "cpu"},
                "tokens": dict(rows=3, same_rows=3, tokens=12, missing=0, forced=0, forced_top=0, max_gap=0.0),
                "repeated": {"fresh_s": [1.0], "again_s": [1.0]},
                "candidate_memory": {"peak_host_bytes": 100 * MIB * (1 + grown) * math.exp(drawn.gauss(0, 1e-3))},
                "reference_memory": {"peak_host_bytes": 100 * MIB},
                "machine": {"load_1min": 0.0},
            }
        )
    return made


def _side(factor: float) -> dict[str, Any]:
    times = {name: {clock: [factor * s] * 3 for clock in ("cpu_s", "wall_s")} for name, s in ONE.items()}
    steps = [[factor * ONE["decode"]] * 3] * 3
    return {**times, "steps_s": steps, "rounds_cpu_s": 1.0, "between_cpu_s": 0.0, "recompiles": None}


def speed(slower: float = 0.0, **options: Any) -> dict[str, Any]:
    return {"launches": launches(slower, **options), "token_rule": "exact", "threads": 2, "options": OPTIONS}


OPTIONS = {"batch": 1, "new_tokens": 4}

AGREEMENT = {
    **{"same_top_ratio": 1.0, "max_logit_difference": 1e-5, "positions": 92},
    **{"continuation_tokens": 384, "continuation_same_top": 384},
}

ONE = {"decode": 0.002, "prefill": 0.01}


def record(name: str, slower: float | None = 0.0, **changes: Any) -> dict[str, Any]:
    benchmarks = [
        {"benchmark": "agreement", "status": "ok", "figures": dict(AGREEMENT)},
        {"benchmark": "memory", "status": "ok", "figures": {"peak_host_bytes": 100 * MIB, "peak_device_bytes": None}},
        {"benchmark": "latency", "status": "ok", "figures": {"first_call_s": 1.0}},
        {"benchmark": "multiple_choice", "status": "ok", "figures": {}, "items_file": "items-multiple_choice.jsonl"},
        {"benchmark": "code", "status": "ok", "figures": {"new_tokens": 500}, "items_file": "items-code.jsonl"},
    ]
    blank = {"items_file": None, "counters": {"graph_breaks": 0, "recompiles": 2}, "samples": {}, "parameters": {}}
    made = {
        **SHAPE,
        "record_id": name,
        "config_hash": name,
        "environment_hash": "e",
        "runtime": {"name": name, "engine": name, "weights": "full", "placement": "device", "dtype": "float32"},
        "model": {"name": "m", "digest": "d"},
        "status": "ok",
        "reason": None,
        "load": {"phases_s": {"weights": 2.0}, "weight_bytes": 4 * MIB, "weight_disk_bytes": None, "device": "cpu"},
        "benchmarks": [blank | entry for entry in benchmarks],
        "speed": None if slower is None else speed(slower),
        "replay": {"tokens": 32, "same_top_tokens": 32, "max_logprob_gap": 0.0},
    }
    return made | changes


def write_items(folder: Path, lost: int = 0, n: int = 1000, probability_drop: float = 0.0) -> Path:
    """Answers to questions of which the first `lost` are wrong, and right with a probability that has dropped."""
    folder.mkdir(exist_ok=True)
    right = math.log(0.7 - probability_drop), math.log(0.3 + probability_drop)
    lines = [
        {"id": f"q{i}", "answer": 0, "predicted": int(i < lost), "is_right": i >= lost, "logprobs": right}
        for i in range(n)
    ]
    (folder / "items-multiple_choice.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    codes = [{"id": f"c{i}", "sample": 0, "is_right": i % 2 == 0} for i in range(n)]
    (folder / "items-code.jsonl").write_text("".join(json.dumps(line) + "\n" for line in codes))
    return folder


EARLIER = {"decode": [0.01, -0.01] * 10, "prefill": [0.01, -0.01] * 10}


def baseline(**changes: Any) -> dict[str, Any]:
    items = {f"q{i}": 1.0 for i in range(1000)}
    made = {
        "cell": "mine",
        "memory": {"weight_bytes": 4 * MIB, "peak_host_bytes": 100 * MIB},
        "load": {"load_s": 2.0, "first_call_s": 1.0},
        "counts": {"graph_breaks": 0, "recompiles": 2, "tokens": 500},
        "speed": {"log_ratios": dict.fromkeys(("wall", "cpu"), EARLIER)},
        "peaks": [100 * MIB * (1 + share) for share in (0.001, -0.001) * 5],
        "accuracy": {"multiple_choice": {"scores": items, "probabilities": dict.fromkeys(items, 0.7)}},
    }
    return made | changes


LIMITS = gate("reference.accuracy={multiple_choice: 0.03}", "baseline.accuracy={multiple_choice: 0.03}")

LIMITS = replace(LIMITS, reference=replace(LIMITS.reference, accuracy={"multiple_choice": 0.03}))

LIMITS = replace(LIMITS, baseline=replace(LIMITS.baseline, accuracy={"multiple_choice": 0.03}))


def found(one: Measured, limits: GateConfig = LIMITS) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(one, limits, 0.99)}
