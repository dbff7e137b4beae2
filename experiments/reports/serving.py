"""The page's points of the benchmark `serving`: one per load, with every figure and the counters of the server."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.descriptive import percentile

_TIMES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "lateness_s")
PERCENTILES = (50, 90, 95, 99)


class ServingPoint(Struct, frozen=True, kw_only=True):
    """One load of a cell. Seconds and rates per second; None: unknown, or too few samples."""

    load: str  # c8, r20, trace or max-rate
    is_open: bool
    concurrency: float | None
    rate: float | None  # of planned arrivals
    times: dict[str, list[float | None]]  # by name: the percentiles of PERCENTILES
    counts: dict[str, int]  # samples behind the percentiles
    figures: dict[str, float | str | None]
    counters: dict[str, float | None]  # of the server: by how much each changed
    highest: dict[str, float | None]  # of the server: what rose and fell again


def serving_points(entries: Sequence[Entry]) -> list[ServingPoint]:
    """Return the points of a cell's entries that were measured, in their order."""
    return [_point(entry) for entry in entries if entry.benchmark == "serving" and entry.status == "ok"]


def _point(entry: Entry) -> ServingPoint:
    is_open = entry.parameters.get("loop") == "open"
    samples = {name: entry.samples.get(name, []) for name in _TIMES}
    return ServingPoint(
        load=str(entry.parameters.get("load", "")),
        is_open=is_open,
        concurrency=entry.parameter("concurrency"),
        rate=entry.figure("offered_requests_per_s") if is_open else None,
        times={name: [percentile(values, percent) for percent in PERCENTILES] for name, values in samples.items()},
        counts={name: len(values) for name, values in samples.items()},
        figures={name: value for name, value in entry.figures.items() if isinstance(value, int | float | str | None)},
        counters=entry.table("server_counters"),
        highest=entry.table("server_highest"),
    )
