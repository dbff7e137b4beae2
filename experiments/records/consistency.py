"""Does a matrix contradict itself? What its rows say of one and the same thing must agree.

Pure: rows in, sentences out. It knows nothing of how the figures came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime_matrix.experiments.records.timed_work import INVALID_TIMING, WRONG_OUTPUT

_ROOM = 0.02  # by which a ratio of medians and a median of ratios may differ
Row = Mapping[str, Any]
_PAIRS = (
    ("tpot_s_p50", "speedup_ratio"),
    ("ttft_s_p50", "prefill_speedup_ratio"),
    ("request_s", "request_speedup_ratio"),
)
_TIMES = ("ttft_s_p50", "tpot_s_p50", "tpot_s_p95", "tpot_s_p99", "batched_tokens_per_s", "throughput_tokens_per_s")
_PAYS = (("pays_after_tokens", "speedup_ratio"), ("pays_after_requests", "request_speedup_ratio"))
_KEYS = ("status", "latency_source", "speedup_ratio", "cpu_speedup_ratio", "speed_note", "start_kind", "price_source")


def contradictions(rows: Sequence[Row]) -> list[str]:
    """Return what the rows of a matrix say against each other or themselves, one sentence each."""
    references = {(row["run_id"], row["model_digest"]): row for row in rows if row["is_reference"]}
    found = []
    for row in rows:
        reference = references.get((row["run_id"], row["model_digest"]))
        found += [f"{row['runtime']}: {said}" for said in _of_row(row, reference)]
    return found


def _of_row(row: Row, reference: Row | None) -> Iterator[str]:
    missing = [key for key in _KEYS if key not in row]
    if missing:
        yield f"no {', '.join(missing)}"
        return
    yield from _status(row)
    yield from _bounds(row)
    yield from _clocks(row)
    yield from _breaks_even(row)
    if reference is not None and reference is not row:
        yield from _times(row, reference)


def _status(row: Row) -> Iterator[str]:
    if row["status"] == "ok":
        if row["start_kind"] is None:
            yield "measured, and no start_kind"
        return
    wanted = [key for key in row if key.endswith("speedup_ratio")]
    if row["status"] in (WRONG_OUTPUT, INVALID_TIMING):
        wanted += [*_TIMES, "usd_per_million_tokens"]
    speeds = [key for key in wanted if row.get(key) is not None]
    if speeds:
        yield f"{row['status']}, and yet {', '.join(speeds)}"
    if not row["reason"]:
        yield f"{row['status']}, and no reason"


def _bounds(row: Row) -> Iterator[str]:
    for key, low in row.items():
        name = key.removesuffix("_low")
        if name == key or low is None or row.get(name) is None or row.get(f"{name}_high") is None:
            continue
        room = 1e-9 * max(1.0, abs(low))
        if not low - room <= row[name] <= row[f"{name}_high"] + room:
            yield f"{name} {row[name]:.4g} is not within [{low:.4g}, {row[f'{name}_high']:.4g}]"


def _clocks(row: Row) -> Iterator[str]:
    if row["speedup_ratio"] is None or row["cpu_speedup_ratio"] is None or row["speed_note"]:
        return
    wall, cpu = (_interval(row, key) for key in ("speedup_ratio", "cpu_speedup_ratio"))
    if wall[1] < cpu[0] or cpu[1] < wall[0]:
        yield (
            f"{row['speedup_ratio']:.2f} by wall time and {row['cpu_speedup_ratio']:.2f} by CPU time, "
            "beyond both intervals and without a speed_note"
        )


def _breaks_even(row: Row) -> Iterator[str]:
    for key, ratio in _PAYS:
        if row.get(key) is not None and (row.get(f"{ratio}_low") is None or row[f"{ratio}_low"] <= 1):
            yield f"{key} {row[key]:.0f}, and {ratio} does not show it to be faster"


def _times(row: Row, reference: Row) -> Iterator[str]:
    """Compare the ratio of two times in the table with the ratio that stands beside them."""
    if row["latency_source"] != "interleaved" or reference["latency_source"] != "interleaved":
        if row["latency_source"] == "alone" and row["speedup_ratio"] is not None:
            yield "a speedup, and times of the cell alone"
        return
    for time, ratio in _PAIRS:
        if None in (row.get(time), reference.get(time), row.get(ratio)):
            continue
        said, (low, high) = reference[time] / row[time], _interval(row, ratio)
        width = max(_spread(row, time), _spread(reference, time))
        if not low / (1 + width + _ROOM) <= said <= high * (1 + width + _ROOM):
            yield f"{time} says {said:.2f}×, {ratio} {row[ratio]:.2f}× [{low:.2f}, {high:.2f}]"


def _spread(row: Row, key: str) -> float:
    """Return by which share a value may lie above or below itself, by its interval."""
    low, high = _interval(row, key)
    return float(max(high / row[key], row[key] / low)) - 1 if low > 0 else 0.0


def _interval(row: Row, key: str) -> tuple[float, float]:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return (row[key], row[key]) if low is None or high is None else (low, high)
