"""The page's details of one cell: distributions, shapes, memory, roofline and wall time."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType

from runtime_matrix.experiments.analysis.audit import audit
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.explanation import Explanation
from runtime_matrix.experiments.analysis.roofline import RequestShape, positions
from runtime_matrix.experiments.analysis.speed_row import INTERLEAVED
from runtime_matrix.experiments.records.audit import Check
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Entry, Environment, Load, Record
from runtime_matrix.experiments.reports.detection_panel import DetectionFigures, detection_figures
from runtime_matrix.experiments.reports.explanation import ShownLadder, shown
from runtime_matrix.experiments.reports.flipped import FlippedItems
from runtime_matrix.experiments.reports.serving import ServingPoint, serving_points
from runtime_matrix.experiments.reports.strategies import strategy_figures
from runtime_matrix.experiments.statistics.descriptive import percentile
from runtime_matrix.experiments.tasks.registry import every_task
from runtime_matrix.experiments.tasks.task import Scenario

T = TypeVar("T")

_DRAWN = 120  # samples of a distribution; a chart cannot resolve more
# The phases of every start, for records without `build_phases`: all other phases count as building.
_LOADING = ("weights", "place", "session")
_TRACED = 240  # samples of the memory trace


class ShapeTimes(Struct, frozen=True, kw_only=True):
    """Latency at one shape, measured without interleaving. Medians; None if not measured."""

    batch: float
    prompt_tokens: float
    new_tokens: float
    ttft_s: float | None
    tpot_s: float | None
    tokens_per_s: float | None


class Memory(Struct, frozen=True, kw_only=True):
    """Peaks by phase in bytes, and the resident memory over time."""

    peaks: dict[str, float | None]
    trace: list[tuple[float, int]]  # seconds since the start, bytes
    estimate: tuple[int, int] | None = None  # of the highest of them, made before loading


class Roofline(Struct, frozen=True, kw_only=True):
    """The hardware peak and the cell's points below it, as (operations per byte, operations per second)."""

    bytes_per_s: float
    flops_per_s: float
    dtype: str | None
    is_packed: bool
    points: dict[str, tuple[float, float]]


class NoRoofline(Struct, frozen=True, kw_only=True):
    """The reason why there is no roofline."""

    reason: str


class Detail(Struct, frozen=True, kw_only=True):
    """The details of a cell. Seconds and bytes; None if not measured."""

    shape: dict[str, float]  # of the requests in `samples`; empty if there are none
    source: str | None
    launches: float | None
    middle: dict[str, float | None]
    samples: dict[str, list[float]]
    counts: dict[str, int]  # of all samples; `samples` is thinned
    grid: list[ShapeTimes]
    wall: list[tuple[str, float]]
    memory: Memory
    roofline: Roofline | NoRoofline
    items: dict[str, int]  # number of items per benchmark
    notes: list[str]
    counters: dict[str, int]
    skipped: list[tuple[str, str, str | None]]  # benchmark, status, reason
    environment: dict[str, str | float | None]
    flipped: FlippedItems
    audit: list[Check]
    causes: list[str] = []  # why it is slower or larger than its reference, one line each
    ladder: ShownLadder | None = None
    serving: list[ServingPoint] = []  # one per load
    strategy: list[tuple[str, float]] = []  # figures that only its strategy has
    detection: DetectionFigures | None = None


@dataclass(frozen=True)
class _Requests:
    """The requests behind a row's times."""

    samples: dict[str, list[float]]
    shape: RequestShape | None


def detail(
    result: Result,
    row: Row,
    flipped: FlippedItems,
    reference: Record | None = None,
    explained: Explanation | None = None,
) -> Detail:
    """Return the details of a cell. KeyError if a latency entry lacks a part of its shape."""
    record = result.record
    ok = [entry for entry in record.benchmarks if entry.status == "ok"]
    # Times of wrong outputs or invalid timing are not shown.
    latency = [entry for entry in ok if entry.benchmark == "latency" and not is_alarm(row)]
    requests = _requests(result, row, latency)
    notes = record.load.notes if record.load else []
    return Detail(
        shape=asdict(requests.shape) if requests.shape else {},
        source=row.latency_source,
        launches=row["speedup_launches"],
        middle={name: row[f"{name}_p50"] for name in ("ttft_s", "tpot_s")},
        samples={name: _thinned(requests.samples.get(name, [])) for name in ("ttft_s", "tpot_s")},
        counts={name: len(requests.samples.get(name, [])) for name in ("ttft_s", "tpot_s")},
        grid=[_of_shape(entry) for entry in latency],
        wall=_wall(record, ok),
        memory=_memory(record, ok),
        roofline=_roofline(record, row, requests.shape, reference),
        items={entry.benchmark: entry.figures["items"] for entry in ok if "items" in entry.figures},
        notes=[*notes, *([row.peak_note] if row.peak_note else [])],
        counters=next((entry.counters for entry in reversed(ok) if entry.counters), {}),
        skipped=[(entry.benchmark, entry.status, entry.reason) for entry in record.benchmarks if entry.status != "ok"],
        environment=_environment(record.environment, record.launch),
        flipped=flipped,
        causes=[cause.line for cause in explained.causes] if explained is not None else [],
        ladder=shown(explained.ladder) if explained is not None and explained.ladder is not None else None,
        serving=serving_points(ok),
        strategy=strategy_figures(ok),
        detection=detection_figures(ok),
        audit=audit(record, result.speed).checks if record.status == "ok" else [],
    )


def _environment(environment: Environment, launch: str | None) -> dict[str, str | float | None]:
    return {
        "processor": _known(environment.processor),
        "cores": _known(environment.cores),
        "instruction sets": " ".join(_known(environment.instruction_sets) or []) or None,
        "CPU limit": _known(environment.cpu_limit),
        "governor": _known(environment.governor),
        "platform": environment.platform,
        "python": environment.python,
        "commit": environment.commit,
        "uncommitted changes": environment.is_dirty,
        "launch": launch,
        **{name: version for name, version in environment.versions.items() if version},
    }


def _known(fact: T | UnsetType) -> T | None:
    return None if fact is UNSET else fact


def _requests(result: Result, row: Row, latency: Sequence[Entry]) -> _Requests:
    """Return the requests behind the row's times: those of interleaved launches if there are any."""
    if row.latency_source != INTERLEAVED or result.speed is None:
        return _Requests(latency[0].samples, _shape(latency[0])) if latency else _Requests({}, None)
    own = [launch.own for launch in result.speed.launches if launch.own is not None]
    prompts = [tokens for block in own for tokens in block.prompt_tokens]
    samples = {
        "ttft_s": [seconds for block in own for seconds in block.candidate.prefill.wall_s],
        "tpot_s": [seconds for block in own for steps in block.candidate.steps_s for seconds in steps],
    }
    mean = round(sum(prompts) / len(prompts), 1)
    return _Requests(samples, RequestShape(own[0].batch, mean, result.speed.options["new_tokens"]))


def _shape(entry: Entry) -> RequestShape:
    """Return the shape of the requests of a latency entry. KeyError if a parameter is missing."""
    return RequestShape(*(entry.parameters[name] for name in ("batch", "prompt_tokens", "new_tokens")))


def _thinned(samples: Sequence[float]) -> list[float]:
    """Return the sorted samples, thinned to `_DRAWN` evenly spaced ones; the smallest and largest are kept."""
    ordered = sorted(samples)
    if len(ordered) > _DRAWN:
        ordered = [ordered[round(i * (len(ordered) - 1) / (_DRAWN - 1))] for i in range(_DRAWN)]
    return [float(f"{value:.4g}") for value in ordered]


def _of_shape(entry: Entry) -> ShapeTimes:
    shape, tpot = _shape(entry), percentile(entry.samples.get("tpot_s", []), 50)
    return ShapeTimes(
        batch=shape.batch,
        prompt_tokens=shape.prompt_tokens,
        new_tokens=shape.new_tokens,
        ttft_s=percentile(entry.samples.get("ttft_s", []), 50),
        tpot_s=tpot,
        tokens_per_s=shape.batch / tpot if tpot else None,
    )


def _wall(record: Record, ok: Sequence[Entry]) -> list[tuple[str, float]]:
    """Return the cell's wall time by phase, in order of time; `rest` is not accounted for."""
    spent = {
        "hardware peak": record.jobs.get("hardware_peak"),
        "reference's logits": record.jobs.get("reference"),
        **(_loading_s(record.load) if record.load else {}),
        **_benchmarks_s(ok),
        "replay": record.jobs.get("replay"),
    }
    known = {name: float(seconds) for name, seconds in spent.items() if seconds}
    total = _seconds(record.started_at, record.finished_at)
    if total is not None:
        known["rest"] = max(0.0, total - sum(known.values()))
    return [(name, float(f"{seconds:.4g}")) for name, seconds in known.items() if seconds >= 0.001]


def _loading_s(load: Load) -> dict[str, float]:
    """Return the seconds of imports, of phases of every start, and of builds that later starts find in the cache."""
    builds = load.phases_s.keys() - set(_LOADING) if load.build_phases is None else set(load.build_phases)
    spent = {"import": load.import_s or 0.0, "load": 0.0, "build": 0.0}
    for name, seconds in load.phases_s.items():
        spent["build" if name in builds else "import" if name == "import" else "load"] += seconds
    return spent


def _benchmarks_s(ok: Sequence[Entry]) -> dict[str, float]:
    """Return the seconds that benchmarks spent on warm-up, on measuring, and on evaluating answers."""
    spent = {"warm-up": 0.0, "measure": 0.0, "evaluate": 0.0}
    for entry in ok:
        timed, whole = sum(entry.samples.get("total_s", [])), entry.duration_s
        task = every_task().get(entry.benchmark)
        if isinstance(task, Scenario) and task.times_rounds:
            spent["measure"] += timed
            spent["warm-up"] += max(0.0, whole - timed) if whole else entry.figure("first_call_s") or 0.0
        else:
            spent["measure" if isinstance(task, Scenario) else "evaluate"] += whole or timed
    return spent


def _seconds(start: str, end: str | None) -> float | None:
    if end is None:
        return None
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


def _memory(record: Record, ok: Sequence[Entry]) -> Memory:
    entry = next((entry for entry in ok if entry.benchmark == "memory"), None)
    trace = record.memory_trace.samples if record.memory_trace else []
    step = max(1, len(trace) // _TRACED)
    return Memory(
        peaks={
            name: entry.figure(f"{name}_peak_host_bytes") if entry else None for name in ("load", "prefill", "decode")
        },
        trace=[(round(seconds, 1), int(resident)) for seconds, resident in trace[::step]],
        estimate=record.memory_estimate.peak_bytes if record.memory_estimate is not None else None,
    )


def _roofline(record: Record, row: Row, shape: RequestShape | None, reference: Record | None) -> Roofline | NoRoofline:
    """Return the hardware peak and the cell's points, or the reason why there is no roofline."""
    peak, dtype = record.hardware_peak, record.load.dtype if record.load else None
    rate = peak.flops_per_s.get(dtype) if peak and dtype else None
    if shape is None:
        return NoRoofline(reason="latency was not measured")
    if not peak or not rate:
        return NoRoofline(reason=f"the hardware peak in {dtype or 'its dtype'} was not measured")
    if not peak.copy_bytes_per_s:
        return NoRoofline(reason="the copy bandwidth was not measured")
    if not record.held().is_whole:
        return NoRoofline(reason="the bytes that move are unknown if layers are offloaded")
    points = positions(record, row["ttft_s_p50"], row["tpot_s_p50"], shape, reference)
    if not points:
        reason = "the number of weights is unknown: no cell of this run holds them in full"
        return NoRoofline(reason=reason)
    return Roofline(
        bytes_per_s=peak.copy_bytes_per_s,
        flops_per_s=rate,
        dtype=dtype,
        is_packed=not record.held().is_dense,
        points=points,
    )
