"""What the page shows of one cell: distributions, shapes, memory, roofline, wall time, what a build costs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from runtime_matrix.experiments.measurement.statistics import percentile
from runtime_matrix.experiments.records.roofline import hardware_peak, positions
from runtime_matrix.experiments.records.speed_row import INTERLEAVED
from runtime_matrix.experiments.views.columns import Row, is_alarm

_DRAWN = 120  # samples of a distribution; more are not told apart in a picture
_LOADING = (
    "weights",
    "place",
    "session",
)  # phases of `load` that every start has; the others build something that is kept
_TRACED = 240


def detail(record: Mapping[str, Any], row: Row, reference: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return plain data for the page. Seconds and bytes; None where it was not measured."""
    ok = [entry for entry in record["benchmarks"] if entry["status"] == "ok"]
    # Times of work that was not the work that was asked for are nobody's to see.
    latency = [entry for entry in ok if entry["benchmark"] == "latency" and not is_alarm(row)]
    first: Mapping[str, Any] = _timed(record, row, latency[0] if latency else {"samples": {}, "parameters": {}})
    load = record["load"] or {}
    environment = record["environment"]
    return {
        "shape": dict(first["parameters"]),
        "source": row["latency_source"],
        "launches": row["speedup_launches"],
        "middle": {name: row[f"{name}_p50"] for name in ("ttft_s", "tpot_s")},
        "samples": {name: _thinned(first["samples"].get(name, [])) for name in ("ttft_s", "tpot_s")},
        "counts": {name: len(first["samples"].get(name, [])) for name in ("ttft_s", "tpot_s")},
        "grid": [_of_shape(entry) for entry in latency],
        "wall": _wall(record, ok),
        "memory": _memory(record, ok),
        "roofline": _roofline(record, row, first, reference),
        "items": {entry["benchmark"]: entry["figures"]["items"] for entry in ok if "items" in entry["figures"]},
        "notes": [*load.get("notes", []), *([row["peak_note"]] if row.get("peak_note") else [])],
        "counters": next((entry["counters"] for entry in reversed(ok) if entry.get("counters")), {}),
        "skipped": [
            [entry["benchmark"], entry["status"], entry.get("reason")]
            for entry in record["benchmarks"]
            if entry["status"] != "ok"
        ],
        "environment": {
            "processor": environment.get("processor"),
            "cores": environment.get("cores"),
            "instruction sets": " ".join(environment.get("instruction_sets") or []) or None,
            "CPU limit": environment.get("cpu_limit"),
            "governor": environment.get("governor"),
            "platform": environment.get("platform"),
            "python": environment.get("python"),
            "commit": environment.get("commit"),
            "uncommitted changes": environment.get("is_dirty"),
            "launch": record.get("launch"),
            **{name: version for name, version in (environment.get("versions") or {}).items() if version},
        },
    }


def _timed(record: Mapping[str, Any], row: Row, alone: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the samples and shape that the row's times are of: those of interleaved launches where it has them."""
    if row["latency_source"] != INTERLEAVED:
        return alone
    speed = record["speed"]
    own = [launch["own"] for launch in speed["launches"]]
    prompts = [tokens for block in own for tokens in block["prompt_tokens"]]
    return {
        "samples": {
            "ttft_s": [seconds for block in own for seconds in block["candidate"]["prefill"]["wall_s"]],
            "tpot_s": [seconds for block in own for steps in block["candidate"]["steps_s"] for seconds in steps],
        },
        "parameters": {
            "batch": own[0]["batch"],
            "prompt_tokens": round(sum(prompts) / len(prompts), 1),
            "new_tokens": speed["options"]["new_tokens"],
        },
    }


def _thinned(samples: Sequence[float]) -> list[float]:
    """Return order statistics, evenly spaced where there are too many to draw; the smallest and largest stay."""
    ordered = sorted(samples)
    if len(ordered) > _DRAWN:
        ordered = [ordered[round(i * (len(ordered) - 1) / (_DRAWN - 1))] for i in range(_DRAWN)]
    return [float(f"{value:.4g}") for value in ordered]


def _of_shape(entry: Mapping[str, Any]) -> dict[str, Any]:
    samples, shape = entry["samples"], entry["parameters"]
    tpot = percentile(samples.get("tpot_s", []), 50)
    return {
        **shape,
        "ttft_s": percentile(samples.get("ttft_s", []), 50),
        "tpot_s": tpot,
        "tokens_per_s": shape["batch"] / tpot if tpot else None,
    }


def _wall(record: Mapping[str, Any], ok: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return where the cell's wall time went, in the order of happening; `rest` is what nothing accounts for."""
    jobs, load = record.get("jobs") or {}, record["load"] or {}
    phases = load.get("phases_s", {})
    found = {
        "hardware peak": jobs.get("hardware_peak") or jobs.get("ceiling"),
        "reference's logits": jobs.get("reference"),
        "import": load.get("import_s"),
        "load": sum(seconds for name, seconds in phases.items() if name in _LOADING),
        "build": sum(seconds for name, seconds in phases.items() if name not in _LOADING),
        "warm-up": 0.0,
        "measure": 0.0,
        "evaluate": 0.0,
        "replay": jobs.get("replay"),
    }
    for entry in ok:
        timed = sum(entry["samples"].get("total_s", []))
        whole = entry.get("duration_s")
        if entry["benchmark"] in ("latency", "throughput"):
            found["measure"] += timed
            found["warm-up"] += max(0.0, whole - timed) if whole else entry["figures"].get("first_call_s") or 0.0
        else:
            found["measure" if entry["benchmark"] == "memory" else "evaluate"] += whole or timed
    known = {name: float(seconds) for name, seconds in found.items() if seconds}
    total = _seconds(record["started_at"], record.get("finished_at"))
    if total is not None:
        known["rest"] = max(0.0, total - sum(known.values()))
    return [(name, float(f"{seconds:.4g}")) for name, seconds in known.items() if seconds >= 0.001]


def _seconds(start: str, end: str | None) -> float | None:
    if end is None:
        return None
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


def _memory(record: Mapping[str, Any], ok: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: Mapping[str, Any] = next((entry["figures"] for entry in ok if entry["benchmark"] == "memory"), {})
    trace = (record.get("memory_trace") or {}).get("samples", [])
    step = max(1, len(trace) // _TRACED)
    return {
        "peaks": {name: figures.get(f"{name}_peak_host_bytes") for name in ("load", "prefill", "decode")},
        "trace": [[round(seconds, 1), resident] for seconds, resident in trace[::step]],
    }


def _roofline(
    record: Mapping[str, Any], row: Row, latency: Mapping[str, Any], reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the hardware peak and the cell's points, or the `reason` why there are none."""
    peak, dtype = hardware_peak(record), (record["load"] or {}).get("dtype")
    rate = peak["flops_per_s"].get(dtype) if peak else None
    if not latency["parameters"]:
        return {"reason": "latency was not measured"}
    if not peak or not rate:
        return {"reason": f"the hardware peak in {dtype or 'its dtype'} was not measured"}
    if record["runtime"]["placement"] != "device":
        return {"reason": "how many bytes move is not known where layers are offloaded"}
    points = positions(record, row["ttft_s_p50"], row["tpot_s_p50"], latency["parameters"], reference)
    if not points:
        return {"reason": "how many weights the model has is not known: no cell of this run holds them in full"}
    is_packed = record["runtime"]["weights"] != "full"
    return {
        "bytes_per_s": peak["copy_bytes_per_s"],
        "flops_per_s": rate,
        "dtype": dtype,
        "is_packed": is_packed,
        "points": points,
    }
