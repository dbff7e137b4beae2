"""Speed figures of a row: times and ratios of interleaved launches, or times that are marked as alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtime_matrix.experiments.analysis.audit import problem
from runtime_matrix.experiments.analysis.roofline import RequestShape, flops_ratio, memory_bandwidth_ratio
from runtime_matrix.experiments.analysis.timed_work import unchecked
from runtime_matrix.experiments.records.audit import Audit
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.metric import UNKNOWN, Metric, number, with_interval
from runtime_matrix.experiments.records.ratios import (
    DETECTION,
    Clock,
    SideName,
    interval_of,
    is_cpu_bound,
    memory_ratio,
    ratio,
    recompiles,
    seconds,
    thread_scaling,
    waiting,
)
from runtime_matrix.experiments.records.row import Figures, Row, Source, interval_in
from runtime_matrix.experiments.records.schema import Entry, Status
from runtime_matrix.experiments.statistics.descriptive import percentile
from runtime_matrix.experiments.statistics.interval import Interval

NOT_INTERLEAVED = "not interleaved"
ONE_LAUNCH = "one launch gives no interval: set comparison.launches=2 or more"
ALONE: Source = "alone"
INTERLEAVED: Source = "interleaved"
_RATIOS = {  # key of the row: phase and clock
    "speedup_ratio": ("decode", Clock.WALL),
    "prefill_speedup_ratio": ("prefill", Clock.WALL),
    "throughput_speedup_ratio": ("throughput", Clock.WALL),
    "long_speedup_ratio": ("long_decode", Clock.WALL),
    "request_speedup_ratio": ("request", Clock.WALL),
    "serving_speedup_ratio": ("serving_throughput", Clock.WALL),
    "serving_ttft_speedup_ratio": ("serving_ttft", Clock.WALL),
    "serving_e2e_speedup_ratio": ("serving_e2e", Clock.WALL),
    "detection_speedup_ratio": (DETECTION, Clock.WALL),
    "cpu_speedup_ratio": ("decode", Clock.CPU),
    "cpu_prefill_speedup_ratio": ("prefill", Clock.CPU),
}
_TURNS = (
    "against the reference, interleaved on the same fresh prompts: wall time at the cell's own threads. The intervals "
    "of the column hold together at 95 %."
)
_LOAD = "with comparison.serving_concurrency requests in flight,"
_OVER_LAUNCHES = "in interleaved launches; 95 % interval over launches."
_SERVED_TIMES = {  # key of the row: phase and title
    "served_ttft_s_p50": ("serving_ttft", "TTFT p50"),
    "served_ttft_s_p95": ("serving_ttft_p95", "TTFT p95"),
    "served_tpot_s_p50": ("serving_tpot", "TPOT p50"),
    "served_e2e_s_p50": ("serving_e2e", "E2E p50"),
    "served_e2e_s_p95": ("serving_e2e_p95", "E2E p95"),
}
_ONE_THREAD = (
    "CPU time of one thread, child processes included, against the reference: the ratio with the least noise, but not "
    "the speed that a user sees. Unknown if the cell is not bound by its CPU time."
)


def _speedup(row: Row, key: str) -> str:
    interval = row.interval(key)
    if interval is None:
        return "1" if row.is_reference and row.status == "ok" else UNKNOWN
    value, low, high = interval
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _ratio(key: str, title: str, rank: int, about: str, unit: str = "", **more: Any) -> Metric:
    return Metric(key=key, title=title, unit=unit, group="speed", rank=rank, display=_speedup, about=about, **more)


METRICS = (
    Metric(
        key="batched_tokens_per_s",
        title="batched",
        unit="tok/s",
        group="throughput",
        rank=5,
        display=with_interval("{:,.0f}"),
        about="New tokens per second of a batch that decodes in step, prefill included, in interleaved launches; 95 % "
        "interval over launches.",
    ),
    _ratio(
        *("speedup_ratio", "decode speedup", 1, f"A step of decoding {_TURNS}"),
        better="high",
        trend="decode speedup",
        smallest_step=0.02,  # a loss that a gate calls indifferent
    ),
    _ratio("prefill_speedup_ratio", "prefill speedup", 3, f"The first token {_TURNS}", better="high"),
    _ratio(
        *("request_speedup_ratio", "request speedup", 5, f"A whole request, prefill and decoding, {_TURNS}"),
        better="high",
    ),
    _ratio("throughput_speedup_ratio", "batch speedup", 4, f"A whole batch {_TURNS}", better="high"),
    _ratio("long_speedup_ratio", "long decode speedup", 6, f"A step of longer texts {_TURNS}", better="high"),
    _ratio(
        "serving_speedup_ratio", "served speedup", 4, f"Tokens per second under load, {_LOAD} {_TURNS}", better="high"
    ),
    _ratio("serving_ttft_speedup_ratio", "served TTFT speedup", 6, f"The first token under load, {_LOAD} {_TURNS}"),
    _ratio("serving_e2e_speedup_ratio", "served E2E speedup", 6, f"A whole request under load, {_LOAD} {_TURNS}"),
    _ratio(
        *("detection_speedup_ratio", "detection speedup", 4),
        f"Observing comparison.observed_responses responses, as detection does, {_TURNS}",
        better="high",
    ),
    *(
        Metric(
            key=key,
            title=f"served {title}",
            unit="ms",
            group="speed",
            rank=7,
            display=with_interval("{:.2f}", 1e3),
            about=f"{title} under load, {_LOAD} {_OVER_LAUNCHES}",
        )
        for key, (_, title) in _SERVED_TIMES.items()
    ),
    Metric(
        key="served_tokens_per_s",
        title="served",
        unit="tok/s",
        group="speed",
        rank=7,
        display=with_interval("{:,.0f}"),
        about=f"New tokens per second under load, {_LOAD} {_OVER_LAUNCHES}",
    ),
    _ratio("cpu_speedup_ratio", "CPU speedup", 5, f"A step of decoding by {_ONE_THREAD}", "1 thread"),
    _ratio("cpu_prefill_speedup_ratio", "CPU prefill", 8, f"The first token by {_ONE_THREAD}", "1 thread"),
    Metric(
        key="speedup_launches",
        title="launches",
        group="speed",
        rank=9,
        display=number("{:.0f}"),
        about="Launches of fresh processes behind the intervals of speedups and times.",
    ),
    Metric(
        key="timed_recompiles",
        title="recompiles",
        unit="timed",
        group="speed",
        rank=9,
        display=number("{:.0f}"),
        about="Graphs compiled within timed rounds; above 0, the times of those rounds are too long.",
    ),
)
_TIMES = {"ttft_s_p50": "prefill", "tpot_s_p50": "decode", "tpot_s_p95": "decode_p95", "tpot_s_p99": "decode_p99"}


@dataclass(frozen=True)
class SpeedRow:
    """The speed figures of a row. `status` and `reason` are set if the timed work was wrong."""

    figures: Figures
    latency_source: Source | None
    speedup_reason: str | None = None
    cpu_speedup_reason: str | None = None
    speed_note: str | None = None
    status: Status | None = None
    reason: str | None = None


def speed_row(result: Result, latency: Entry | None, agreement: Entry | None, level: float, audited: Audit) -> SpeedRow:
    """Return the speed figures of a row. `level`: of each ratio's interval; `latency`, `agreement`: the row's entries.

    If a check of the audit failed, there is no speed, and `status` and `reason` are set.
    """
    speed = result.speed
    launches = speed.launches if speed is not None else []
    wrong = problem(audited)
    unusable_reason = (
        wrong.reason if wrong else unchecked(speed, agreement, result.record.load) if speed is not None else None
    )
    usable = [] if unusable_reason else launches
    times, source = _times(result, usable, None if wrong else latency)
    ratios = _ratios(result, usable, level)
    loads = [load for launch in usable if (load := launch.machine.load_1min) is not None]
    figures = {
        **times,
        **ratios.figures,
        **_served(usable),
        "speedup_launches": len(usable) or None,
        "speedup_threads": speed.threads if speed is not None and usable else None,
        "speedup_load_1min": max(loads, default=None),
        "timed_recompiles": recompiles(usable),
        **_with_bounds("memory_ratio", memory_ratio(usable) if usable else None),
    }
    default_reason = ONE_LAUNCH if len(usable) == 1 else NOT_INTERLEAVED
    reason = unusable_reason or (speed.reason if speed is not None else result.speed_problem) or default_reason
    row = replace(
        ratios, figures=figures, latency_source=source, speedup_reason=None if figures["speedup_ratio"] else reason
    )
    return replace(row, status=wrong.status, reason=wrong.reason) if wrong else row


def _times(result: Result, launches: Sequence[Launch], latency: Entry | None) -> tuple[Figures, Source | None]:
    times, source = _interleaved_times(launches) if launches else _alone_times(latency)
    ttft, tpot = times["ttft_s_p50"], times["tpot_s_p50"]
    request = _interleaved_request(result, launches) if launches else request_of(latency)
    prefill = request.batch * request.prompt_tokens / ttft if ttft and request else None
    figures = {
        **times,
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": request.batch / tpot if tpot and request else None,
        "decode_mbu_ratio": memory_bandwidth_ratio(result.record, tpot, request),
        "prefill_mfu_ratio": flops_ratio(result.record, prefill),
    }
    return figures, source


def request_of(latency: Entry | None) -> RequestShape | None:
    """Return the shape of a latency entry; None if a parameter is missing."""
    if latency is None:
        return None
    names = ("batch", "prompt_tokens", "new_tokens")
    known = [value for name in names if (value := latency.parameter(name)) is not None]
    return RequestShape(*known) if len(known) == len(names) else None


def _interleaved_request(result: Result, launches: Sequence[Launch]) -> RequestShape:
    assert result.speed is not None
    options = result.speed.options
    own = [launch.own for launch in launches if launch.own is not None]
    prompts = [tokens for block in own for tokens in block.prompt_tokens]
    return RequestShape(own[0].batch, float(np.mean(prompts)), options["new_tokens"])


def _interleaved_times(launches: Sequence[Launch]) -> tuple[Figures, Source | None]:
    figures: Figures = {}
    for key, phase in _TIMES.items():
        figures |= _with_bounds(key, interval_of(seconds(launches, phase)))
    figures |= _with_bounds("request_s", interval_of(seconds(launches, "request")))
    own = [launch.own.candidate for launch in launches if launch.own is not None]
    figures["ttft_samples"] = sum(len(side.prefill.wall_s) for side in own)
    figures["tpot_samples"] = sum(len(steps) for side in own for steps in side.steps_s)
    return figures | _with_bounds("batched_tokens_per_s", _batched_rate(launches)), INTERLEAVED


def _served(launches: Sequence[Launch]) -> Figures:
    """Return the times and the rate under load, with their intervals."""
    figures: Figures = {}
    for key, (phase, _) in _SERVED_TIMES.items():
        figures |= _with_bounds(key, interval_of(seconds(launches, phase)))
    per_token = interval_of(seconds(launches, "serving_throughput"))
    rate = per_token and Interval(1 / per_token.estimate, 1 / per_token.high, 1 / per_token.low, per_token.level)
    return figures | _with_bounds("served_tokens_per_s", rate)


def _batched_rate(launches: Sequence[Launch]) -> Interval | None:
    """Return the new tokens per second of a batch that decodes in step, prefill included."""
    interval, block = interval_of(seconds(launches, "throughput")), launches[0].batched
    if interval is None or block is None:
        return None
    tokens = len(block.candidate.steps_s[0]) + 1  # of each row; the seconds are per row
    return Interval(tokens / interval.estimate, tokens / interval.high, tokens / interval.low, interval.level)


def _alone_times(latency: Entry | None) -> tuple[Figures, Source | None]:
    samples = latency.samples if latency is not None else {}
    ttft, tpot = samples.get("ttft_s", []), samples.get("tpot_s", [])
    values = {
        "ttft_s_p50": percentile(ttft, 50),
        "tpot_s_p50": percentile(tpot, 50),
        "tpot_s_p95": percentile(tpot, 95),
        "tpot_s_p99": percentile(tpot, 99),
    }
    figures: Figures = {}
    for key, value in values.items():
        figures |= {key: value, f"{key}_low": None, f"{key}_high": None}
    figures |= {"ttft_samples": len(ttft) or None, "tpot_samples": len(tpot) or None}
    figures |= _with_bounds("request_s", None) | _with_bounds("batched_tokens_per_s", None)
    return figures, ALONE if tpot else None


def _ratios(result: Result, launches: Sequence[Launch], level: float) -> SpeedRow:
    compared = [] if result.record.is_reference and _is_own_reference(result) else launches
    figures: Figures = {}
    for key, (phase, clock) in _RATIOS.items():
        figures |= _with_bounds(key, ratio(compared, phase, clock, level))
    cpu_reason = None
    for phase, key in (("decode", "cpu_speedup_ratio"), ("prefill", "cpu_prefill_speedup_ratio")):
        if is_cpu_bound(compared, phase) is False:
            excess = waiting(compared, phase)
            assert excess is not None
            figures |= _with_bounds(key, None)
            cpu_reason = (
                f"not bound by its CPU time: at one thread its wall ratio is {excess.estimate:.2f} "
                f"[{excess.low:.2f}, {excess.high:.2f}] times its CPU ratio"
            )
    row = SpeedRow(figures, None, cpu_speedup_reason=cpu_reason)
    return replace(row, speed_note=_note(row, compared))


def _is_own_reference(result: Result) -> bool:
    return result.speed is not None and result.speed.against == result.record.record_id


def _note(row: SpeedRow, launches: Sequence[Launch]) -> str | None:
    """Return what explains the ratios: unequal batches, or why those of wall and CPU time differ; None if neither."""
    own = next((launch.own for launch in launches if launch.own is not None), None)
    if own is not None and own.reference_batch is not None:
        return f"batches of {own.batch} rows, the reference's of {own.reference_batch}; rates are per token"
    wall, cpu = interval_in(row.figures, "speedup_ratio"), interval_in(row.figures, "cpu_speedup_ratio")
    if wall is None or cpu is None:
        return row.cpu_speedup_reason
    if wall[1] <= cpu[2] and cpu[1] <= wall[2]:
        return None
    sides: tuple[SideName, SideName] = ("candidate", "reference")
    own_scaling, reference_scaling = (thread_scaling(launches, side) for side in sides)
    threads = launches[0].threads
    reason = (
        f"{threads} threads make its steps {own_scaling:.2f}× as fast as one, the reference's {reference_scaling:.2f}×"
        if own_scaling and reference_scaling and threads > 1
        else "the rounds of one thread are shorter"
    )
    return f"{wall[0]:.2f}× by wall time, {cpu[0]:.2f}× by CPU time of one thread: {reason}"


def _with_bounds(key: str, interval: Interval | None) -> Figures:
    ends = (interval.estimate, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((key, f"{key}_low", f"{key}_high"), ends, strict=True))
