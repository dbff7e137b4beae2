"""Makes result folders as sweeps leave them: records, what was found beside them, items. Figures are invented."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from runtime_matrix.experiments.analysis.paired_outputs import compare
from runtime_matrix.experiments.records.comparison import SPEED_SCHEMA_VERSION, Launch, OutputDiff, Result, Speed
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import SCHEMA_VERSION, Record, Status, to_plain, typed
from runtime_matrix.experiments.records.store import OUTPUT_DIFF_FILE, SPEED_FILE

QUESTIONS = 40
ROUNDS, STEPS = 6, 8  # of a launch, and tokens after the first one
SHAPE = {"layers": 2, "kv_heads": 2, "head_width": 16, "hidden": 64, "vocabulary": 512, "is_tied": False}


def make_record(
    name: str,
    *,
    run: str = "run-1",
    started_at: str = "2026-11-01T10:00:00+00:00",
    commit: str = "a" * 40,
    status: Status = "ok",
    reason: str | None = None,
    slowness: float = 1.0,
    peak_mib: float = 60.0,
    accuracy: float = 0.8,
    is_reference: bool | None = None,
    price: float | None = None,
    seed: int = 0,
    questions: int = QUESTIONS,
) -> Record:
    """Return a record; its TPOT, measured alone, is `slowness` × 2 ms."""
    drawn = random.Random(f"{name}{run}{seed}")
    tpot = [0.002 * slowness * drawn.uniform(0.9, 1.2) for _ in range(310)]
    record_id = f"{run}-{name}"
    facts: dict[str, Any] = {"bandwidth_gb_per_s": None, "peak_tflops": {}, "price_usd_per_hour": price, "source": None}
    content = {
        "schema_version": SCHEMA_VERSION,
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
        "benchmarks": _benchmarks(tpot, peak_mib, accuracy, questions) if status == "ok" else [],
    }
    return typed(content, Record)


def result(record: Record, launches: Sequence[Launch] | None = None, diff: OutputDiff | None = None) -> Result:
    """Return a record with what comparing it found, as `store.read_results` does; in no folder."""
    compared = None if launches is None else speed(launches, f"{record.run_id}-eager")
    return Result(record, Path(record.record_id), compared, diff)


def changed_row(row: Row, **changes: Any) -> Row:
    """Return the row with other values of its own fields, and of its figures."""
    own = {key: value for key, value in changes.items() if key in Row.__struct_fields__}
    figures = {key: value for key, value in changes.items() if key not in own}
    return replace(row, **own, figures={**row.figures, **figures})


def _benchmarks(tpot: list[float], peak_mib: float, accuracy: float, questions: int) -> list[dict[str, Any]]:
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
            {"accuracy": accuracy, "standard_error": 0.06, "items": questions},
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


def items(right: int, questions: int = QUESTIONS) -> str:
    """Return a file of multiple choice in which the first `right` answers are right."""
    lines = []
    for number in range(questions):
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


def launches(
    speedup: float, count: int = 4, cpu_speedup: float | None = None, wrong: str | None = None
) -> list[Launch]:
    """Return the launches of a cell against a reference whose step takes 2 ms, as `comparison.speed` stores them.

    `cpu_speedup` is that of one thread; by default both are the same. `wrong`: "tokens" that are not the reference's,
    or "between", computing between the rounds.
    """
    drawn = random.Random(speedup)

    def side(step_s: float, rounds: int, steps: int = STEPS, between_s: float = 0.0) -> dict[str, Any]:
        return {
            "prefill": {"wall_s": [2 * step_s] * rounds, "cpu_s": [2 * step_s] * rounds},
            "decode": {"wall_s": [step_s] * rounds, "cpu_s": [step_s] * rounds},
            "steps_s": [[round(step_s, 7)] * steps for _ in range(rounds)],
            "rounds_cpu_s": step_s * (2 + steps) * rounds,
            "between_cpu_s": between_s,
            "recompiles": 0,
        }

    def block(candidate_s: float, reference_s: float, rounds: int, batch: int = 1) -> dict[str, Any]:
        between = 10.0 if wrong == "between" else 0.0
        return {
            "candidate": side(candidate_s, rounds, between_s=between),
            "reference": side(reference_s, rounds),
            "batch": batch,
            "prompt_tokens": [64] * rounds,
        }

    found = []
    for _ in range(count):
        noise, other = drawn.uniform(0.99, 1.01), drawn.uniform(0.99, 1.01)
        rows = ROUNDS + 8 * 3 + ROUNDS  # of the three blocks
        tokens = rows * (STEPS + 1)
        found.append(
            {
                "own": block(0.002 / speedup * noise, 0.002, ROUNDS),
                "long": None,
                "batched": block(0.004 / speedup * other, 0.004, 3, batch=8),
                "one_thread": block(0.003 / (cpu_speedup or speedup) * noise, 0.003, ROUNDS),
                "tokens": {
                    "rows": rows,
                    "same_rows": 0 if wrong == "tokens" else rows,
                    "tokens": tokens,
                    "missing": 0,
                    "forced": tokens if wrong == "tokens" else 0,
                    "forced_top": 0,
                    "max_gap": 20.4 if wrong == "tokens" else 0.0,
                },
                "repeated": {"fresh_s": [0.1], "again_s": [0.1]},
                "candidate_memory": {"peak_host_bytes": 400_000_000},
                "reference_memory": {"peak_host_bytes": 400_000_000},
                "threads": 2,
                "device": "cpu",
                "machine": {"load_1min": 0.5},
                "seed": "0",
            }
        )
    return typed(found, list[Launch])


def write(
    folder: Path,
    records: Sequence[Record],
    speedups: dict[str, float] | None = None,
    cpu_speedups: dict[str, float] | None = None,
    wrong: dict[str, str] | None = None,
) -> Path:
    """Write the records, with items, speeds and answers beside those that were compared with `eager` of their run."""
    for record in records:
        place = folder / record.record_id
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(to_plain(record)))
        figures = next((e.figures for e in record.benchmarks if e.benchmark == "multiple_choice"), None)
        if figures:
            right = round(figures["items"] * figures["accuracy"])
            (place / "items-multiple_choice.jsonl").write_text(items(right, figures["items"]))
    references = {record.run_id: record for record in records if record.is_reference}
    for record in records:
        name, reference = record.runtime.name, references.get(record.run_id)
        if not speedups or not reference or record.status != "ok":
            continue
        if record is reference:
            _write_speed(folder, record, reference, launches(1.0))
        elif name in speedups:
            found = launches(speedups[name], 4, (cpu_speedups or {}).get(name), (wrong or {}).get(name))
            _write_speed(folder, record, reference, found)
            places = [folder / one.record_id for one in (record, reference)]
            diff = compare(record, reference, *places)
            (places[0] / OUTPUT_DIFF_FILE).write_text(json.dumps(to_plain(diff)))
    return folder


def speed(found: Sequence[Launch], against: str = "") -> Speed:
    """Return what a comparison leaves of these launches."""
    return Speed(
        schema_version=SPEED_SCHEMA_VERSION,
        against=against,
        options={"batch": 1, "prompt_tokens": [64, 64], "new_tokens": STEPS + 1, "batched": 8},
        threads=2,
        token_rule="exact",
        launches=list(found),
    )


def _write_speed(folder: Path, record: Record, reference: Record, found: Sequence[Launch]) -> None:
    content = to_plain(speed(found, reference.record_id))
    (folder / record.record_id / SPEED_FILE).write_text(json.dumps(content))


def sweep(folder: Path, questions: int = QUESTIONS, has_garbage: bool = False) -> Path:
    """Write a run of a reference, a faster cell, a slower and larger one, one that lost answers, and a failure.

    `has_garbage` adds a cell that is fast by computing nothing.
    """
    cells: list[tuple[str, dict[str, Any]]] = [
        ("eager", {}),
        ("onnxruntime", {"slowness": 0.4, "peak_mib": 120}),
        ("compile", {"slowness": 0.7, "peak_mib": 170}),
        ("gptq", {"slowness": 0.5, "peak_mib": 30, "accuracy": 0.5}),
        ("offload", {"status": "out_of_memory", "reason": "killed by <the kernel>"}),
        *([("t_garbage", {"slowness": 0.01, "peak_mib": 10})] if has_garbage else []),
    ]
    made = [
        make_record(name, started_at=f"2026-11-01T10:{minute:02}:00+00:00", questions=questions, **options)
        for minute, (name, options) in enumerate(cells)
    ]
    speedups = {"onnxruntime": 2.5, "compile": 1.5, "gptq": 2.0, "t_garbage": 165.0}
    return write(folder, made, speedups, wrong={"t_garbage": "tokens"})
