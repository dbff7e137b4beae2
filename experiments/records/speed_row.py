"""What a row says of a cell's speed: times and ratios of interleaved launches, or of the cell alone, marked so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime_matrix.experiments.measurement.paired import Interval
from runtime_matrix.experiments.measurement.statistics import percentile
from runtime_matrix.experiments.records.roofline import flops_ratio, memory_bandwidth_ratio
from runtime_matrix.experiments.records.speed import (
    Clock,
    interval_of,
    is_cpu_bound,
    memory_ratio,
    ratio,
    recompiles,
    seconds,
    thread_scaling,
    waiting,
)
from runtime_matrix.experiments.records.timed_work import problem, unchecked

NOT_INTERLEAVED = "not interleaved"
ONE_LAUNCH = "one launch has no spread: comparison.launches=2 or more tells speeds"
ALONE, INTERLEAVED = "alone", "interleaved"
_RATIOS = {  # key of the row: phase and clock
    "speedup_ratio": ("decode", Clock.WALL),
    "prefill_speedup_ratio": ("prefill", Clock.WALL),
    "throughput_speedup_ratio": ("throughput", Clock.WALL),
    "long_speedup_ratio": ("long_decode", Clock.WALL),
    "request_speedup_ratio": ("request", Clock.WALL),
    "cpu_speedup_ratio": ("decode", Clock.CPU),
    "cpu_prefill_speedup_ratio": ("prefill", Clock.CPU),
}
_TIMES = {"ttft_s_p50": "prefill", "tpot_s_p50": "decode", "tpot_s_p95": "decode_p95", "tpot_s_p99": "decode_p99"}
Row = dict[str, Any]


def speed_row(record: Mapping[str, Any], latency: Mapping[str, Any], agreement: Mapping[str, Any], level: float) -> Row:
    """Return the keys of a row; `level` is of each ratio's interval, `latency` and `agreement` are its entries.

    Where the timed work was wrong, `status` and `reason` say so, and no speed is told.
    """
    speed = record.get("speed") or {}
    launches, figures = speed.get("launches", []), agreement.get("figures", {})
    wrong = problem(speed, figures) if launches else None
    left_open = wrong.reason if wrong else unchecked(speed, figures)
    usable = [] if left_open else launches
    row = {
        **_times(record, usable, {} if wrong else latency),
        **_ratios(record, usable, level),
        "speedup_launches": len(usable) or None,
        "speedup_threads": speed.get("threads") if usable else None,
        "speedup_load_1min": max(
            (load for one in usable if (load := one["machine"]["load_1min"]) is not None), default=None
        ),
        "timed_recompiles": recompiles(usable),
        **_memory(usable),
    }
    otherwise = ONE_LAUNCH if len(usable) == 1 else NOT_INTERLEAVED
    row["speedup_reason"] = None if row["speedup_ratio"] else left_open or speed.get("reason") or otherwise
    return row | ({"status": wrong.status, "reason": wrong.reason} if wrong else {})


def _times(record: Mapping[str, Any], launches: Sequence[Mapping[str, Any]], latency: Mapping[str, Any]) -> Row:
    shape = latency.get("parameters", {})
    found = _interleaved_times(launches) if launches else _alone_times(latency)
    ttft, tpot = found["ttft_s_p50"], found["tpot_s_p50"]
    batch, prompt = shape.get("batch"), shape.get("prompt_tokens")
    if launches:
        options = record["speed"]["options"]
        batch, prompt = options["batch"], float(np.mean([n for one in launches for n in one["own"]["prompt_tokens"]]))
        shape = {"batch": batch, "prompt_tokens": prompt, "new_tokens": options["new_tokens"]}
    prefill = batch * prompt / ttft if ttft and batch and prompt else None
    return {
        **found,
        "first_call_s": latency.get("figures", {}).get("first_call_s"),
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": batch / tpot if tpot and batch else None,
        "decode_mbu_ratio": memory_bandwidth_ratio(record, tpot, shape),
        "prefill_mfu_ratio": flops_ratio(record, prefill),
    }


def _interleaved_times(launches: Sequence[Mapping[str, Any]]) -> Row:
    row: Row = {"latency_source": INTERLEAVED}
    for key, phase in _TIMES.items():
        found = interval_of(seconds(launches, phase))
        row |= _with_bounds(key, found)
    row |= _with_bounds("request_s", interval_of(seconds(launches, "request")))
    row["ttft_samples"] = sum(len(one["own"]["candidate"]["prefill"]["wall_s"]) for one in launches)
    row["tpot_samples"] = sum(len(steps) for one in launches for steps in one["own"]["candidate"]["steps_s"])
    return row | _with_bounds("batched_tokens_per_s", _batched_rate(launches))


def _batched_rate(launches: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Return the new tokens a second of a batch that decodes in step, its prompts included."""
    found = interval_of(seconds(launches, "throughput"))
    if found is None:
        return None
    block = launches[0]["batched"]
    tokens = block["batch"] * (len(block["candidate"]["steps_s"][0]) + 1)
    return Interval(tokens / found.estimate, tokens / found.high, tokens / found.low, found.level)


def _alone_times(latency: Mapping[str, Any]) -> Row:
    samples = latency.get("samples", {})
    ttft, tpot = samples.get("ttft_s", []), samples.get("tpot_s", [])
    row: Row = {"latency_source": ALONE if tpot else None}
    values = {
        "ttft_s_p50": percentile(ttft, 50),
        "tpot_s_p50": percentile(tpot, 50),
        "tpot_s_p95": percentile(tpot, 95),
        "tpot_s_p99": percentile(tpot, 99),
    }
    for key, value in values.items():
        row |= {key: value, f"{key}_low": None, f"{key}_high": None}
    row |= {"ttft_samples": len(ttft) or None, "tpot_samples": len(tpot) or None}
    return row | _with_bounds("request_s", None) | _with_bounds("batched_tokens_per_s", None)


def _ratios(record: Mapping[str, Any], launches: Sequence[Mapping[str, Any]], level: float) -> Row:
    row: Row = {}
    compared = [] if record["is_reference"] and _is_own_reference(record) else launches
    for key, (phase, clock) in _RATIOS.items():
        row |= _with_bounds(key, ratio(compared, phase, clock, level))
    row["cpu_speedup_reason"] = None
    for phase, key in (("decode", "cpu_speedup_ratio"), ("prefill", "cpu_prefill_speedup_ratio")):
        if is_cpu_bound(compared, phase) is False:
            found = waiting(compared, phase)
            assert found is not None
            row |= _with_bounds(key, None)
            row["cpu_speedup_reason"] = (
                f"not bound by its CPU time: at one thread its wall ratio is {found.estimate:.2f} "
                f"[{found.low:.2f}, {found.high:.2f}] times its CPU ratio"
            )
    row["speed_note"] = _note(row, compared)
    return row


def _is_own_reference(record: Mapping[str, Any]) -> bool:
    return (record.get("speed") or {}).get("against") == record["record_id"]


def _note(row: Row, launches: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why the wall ratio and the CPU ratio of a row disagree beyond both intervals, None where they agree."""
    wall, cpu = row["speedup_ratio"], row["cpu_speedup_ratio"]
    if wall is None or cpu is None:
        return row["cpu_speedup_reason"]
    if (
        row["speedup_ratio_low"] <= row["cpu_speedup_ratio_high"]
        and row["cpu_speedup_ratio_low"] <= row["speedup_ratio_high"]
    ):
        return None
    mine, theirs = (thread_scaling(launches, side) for side in ("candidate", "reference"))
    threads = launches[0]["threads"]
    why = (
        f"{threads} threads make its steps {mine:.2f}× as fast as one, the reference's {theirs:.2f}×"
        if mine and theirs and threads > 1
        else "the rounds of one thread are shorter"
    )
    return f"{wall:.2f}× by wall time, {cpu:.2f}× by CPU time of one thread: {why}"


def _memory(launches: Sequence[Mapping[str, Any]]) -> Row:
    return _with_bounds("memory_ratio", memory_ratio(launches) if launches else None)


def _with_bounds(key: str, found: Interval | None) -> Row:
    ends = (found.estimate, found.low, found.high) if found else (None, None, None)
    return dict(zip((key, f"{key}_low", f"{key}_high"), ends, strict=True))
