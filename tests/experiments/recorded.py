"""Makes result folders as sweeps leave them: records, what was found beside them, items. Figures are invented."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparison.answers import compare

QUESTIONS = 40
SHAPE = {"layers": 2, "kv_heads": 2, "head_width": 16, "hidden": 64, "vocabulary": 512, "is_tied": False}


def make_record(
    name: str,
    *,
    run: str = "run-1",
    started_at: str = "2026-11-01T10:00:00+00:00",
    commit: str = "a" * 40,
    status: str = "ok",
    reason: str | None = None,
    slowness: float = 1.0,
    peak_mib: float = 60.0,
    accuracy: float = 0.8,
    is_reference: bool | None = None,
    price: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return a record; its TPOT is `slowness` × 2 ms."""
    drawn = random.Random(f"{name}{run}{seed}")
    tpot = [0.002 * slowness * drawn.uniform(0.9, 1.2) for _ in range(310)]
    record_id = f"{run}-{name}"
    facts: dict[str, Any] = {"bandwidth_gb_per_s": None, "peak_tflops": {}, "price_usd_per_hour": price, "source": None}
    return {
        "schema_version": 1,
        "run_id": run,
        "record_id": record_id,
        "started_at": started_at,
        "finished_at": (datetime.datetime.fromisoformat(started_at) + datetime.timedelta(seconds=30)).isoformat(),
        "runtime": {"name": name, "engine": name, "weights": "full", "placement": "device", "dtype": "float32"},
        "is_reference": name == "eager" if is_reference is None else is_reference,
        "model": {"name": "bundled", "digest": "d" * 32, "shape": SHAPE},
        "hw": {"name": "auto", "device": "auto", "threads": 2},
        "config": {"hw": {"facts": facts}},
        "config_hash": f"hash-{name}",
        "environment": {"hostname": "h", "processor": "P", "cores": 2, "memory_bytes": 8, "commit": commit},
        "environment_hash": commit[:16],
        "launch": "fork",
        "command": f"python -m experiments.run runtime={name}",
        "status": status,
        "reason": reason,
        "exit_code": 0,
        "load": {
            "phases_s": {"weights": 0.1},
            "weight_bytes": 2_000_000,
            "weight_disk_bytes": 2_000_000,
            "dtype": "float32",
            "device": "cpu",
            "notes": [],
        },
        "hardware_peak": {"copy_bytes_per_s": 3e10, "flops_per_s": {"float32": 2e11}},
        "jobs": {"hardware_peak": 0.1, "reference": 1.0, "measure": 20.0, "replay": 0.5},
        "memory_trace": {"samples": [[0.0, 3e8], [0.5, 3.5e8], [1.0, 3.4e8]]},
        "replay": {"tokens": 32, "same_top_tokens": 32, "max_logprob_gap": 0.0},
        "failures": [],
        "benchmarks": _benchmarks(tpot, peak_mib, accuracy) if status == "ok" else [],
    }


def _benchmarks(tpot: list[float], peak_mib: float, accuracy: float) -> list[dict[str, Any]]:
    shape = {"batch": 1, "prompt_tokens": 64, "new_tokens": 32}
    rate = 900 * 0.002 / (sum(tpot) / len(tpot))
    return [
        _entry("latency", shape, {"first_call_s": 0.2}, {"ttft_s": tpot[:10], "tpot_s": tpot, "total_s": [0.1] * 10}),
        _entry(
            "throughput",
            {"requests": 32, "prompt_tokens": 1307, "new_tokens": 1024},
            {"tokens_per_s": rate, "requests_per_s": rate / 32},
            {"total_s": [1024 / rate]},
        ),
        _entry("memory", shape, {"peak_host_bytes": int(peak_mib * 2**20), "load_peak_host_bytes": 30 * 2**20}, {}),
        _entry(
            "multiple_choice",
            {},
            {"accuracy": accuracy, "standard_error": 0.06, "items": QUESTIONS},
            {},
            "items-multiple_choice.jsonl",
        ),
    ]


def _entry(
    name: str, shape: dict[str, Any], figures: dict[str, Any], samples: dict[str, Any], items: str | None = None
) -> dict[str, Any]:
    return {
        "status": "ok",
        "reason": None,
        "counters": {},
        "duration_s": 2.0,
        "ended_at": 1793527230.0,
        "benchmark": name,
        "case": f"test_{name}",
        "parameters": shape,
        "samples": samples,
        "figures": figures,
        "timed_tokens": {},
        "items_file": items,
    }


def items(right: int) -> str:
    """Return a file of multiple choice in which the first `right` answers are right."""
    lines = []
    for number in range(QUESTIONS):
        answer, is_right = number % 2, number < right
        predicted = answer if is_right else 1 - answer
        item = {
            "id": f"q-{number}",
            "subject": "s",
            "question": f"What is <b>{number}</b>?",
            "choices": ["one", "two"],
            "answer": answer,
            "predicted": predicted,
            "is_right": is_right,
            "logprobs": [-1.0, -2.0] if predicted == 0 else [-2.0, -1.0],
            "lengths": [1, 1],
        }
        lines.append(json.dumps(item) + "\n")
    return "".join(lines)


def launches(speedup: float, count: int = 4) -> list[dict[str, Any]]:
    drawn = random.Random(speedup)

    def side(seconds: float) -> dict[str, Any]:
        clocks = {"cpu_s": [seconds] * 10, "wall_s": [seconds] * 10}
        return {"prefill": clocks, "decode": clocks}

    memory = {"peak_host_bytes": 400_000_000, "peak_device_bytes": None}
    return [
        {
            "candidate": side(0.002 / speedup * drawn.uniform(0.99, 1.01)),
            "reference": side(0.002),
            "candidate_memory": memory,
            "reference_memory": memory,
            "load_1min": 0.5,
        }
        for _ in range(count)
    ]


def write(folder: Path, records: Sequence[dict[str, Any]], speedups: dict[str, float] | None = None) -> Path:
    """Write the records, with items, speeds and answers beside those that were compared with `eager` of their run."""
    for record in records:
        place = folder / record["record_id"]
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(record))
        figures = next((e["figures"] for e in record["benchmarks"] if e["benchmark"] == "multiple_choice"), None)
        if figures:
            (place / "items-multiple_choice.jsonl").write_text(items(round(QUESTIONS * figures["accuracy"])))
    references = {record["run_id"]: record for record in records if record["is_reference"]}
    for record in records:
        speedup = (speedups or {}).get(record["runtime"]["name"])
        reference = references.get(record["run_id"])
        if speedup and reference and record["status"] == "ok":
            content = {"schema_version": 1, "against": "", "launches": launches(speedup), "reason": None}
            (folder / record["record_id"] / "speed.json").write_text(json.dumps(content))
            places = [folder / one["record_id"] for one in (record, reference)]
            found = {"schema_version": 1, "against": reference["record_id"]}
            answers = json.dumps(found | {"benchmarks": compare(record, reference, *places)})
            (places[0] / "answers.json").write_text(answers)
    return folder


def sweep(folder: Path) -> Path:
    """Write a run of a reference, a faster cell, a slower and larger one, one that lost answers, and a failure."""
    cells: list[tuple[str, dict[str, Any]]] = [
        ("eager", {}),
        ("onnxruntime", {"slowness": 0.4, "peak_mib": 120}),
        ("compile", {"slowness": 0.7, "peak_mib": 170}),
        ("gptq", {"slowness": 0.5, "peak_mib": 30, "accuracy": 0.5}),
        ("offload", {"status": "out_of_memory", "reason": "killed by <the kernel>"}),
    ]
    made = [
        make_record(name, started_at=f"2026-11-01T10:{minute:02}:00+00:00", **options)
        for minute, (name, options) in enumerate(cells)
    ]
    return write(folder, made, {"onnxruntime": 2.5, "compile": 1.5, "gptq": 2.0})
