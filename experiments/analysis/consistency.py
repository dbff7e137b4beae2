"""Consistency checks of a matrix: figures of the same quantity must agree.

Pure: rows in, sentences out. The origin of the figures is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import FAILED_TIMING

_ROOM = 0.02  # by which a ratio of medians and a median of ratios may differ
_PAIRS = (
    ("tpot_s_p50", "speedup_ratio"),
    ("ttft_s_p50", "prefill_speedup_ratio"),
    ("request_s", "request_speedup_ratio"),
)
_TIMES = ("ttft_s_p50", "tpot_s_p50", "tpot_s_p95", "tpot_s_p99", "batched_tokens_per_s", "throughput_tokens_per_s")
_PAYS = (("break_even_tokens", "speedup_ratio"), ("break_even_requests", "request_speedup_ratio"))
_KEYS = ("speedup_ratio", "cpu_speedup_ratio")


def contradictions(rows: Sequence[Row]) -> list[str]:
    """Return one sentence per contradiction within a row, or between a row and its reference."""
    references = {(row.run_id, row.model_digest, row.strategy): row for row in rows if row.is_reference}
    sentences = []
    for row in rows:
        reference = references.get((row.run_id, row.model_digest, row.strategy))
        sentences += [f"{row.runtime}: {sentence}" for sentence in _of_row(row, reference)]
    return sentences


def _of_row(row: Row, reference: Row | None) -> Iterator[str]:
    missing = [key for key in _KEYS if key not in row.figures]
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
    if row.status == "ok":
        if row.start_kind is None:
            yield "measured, but without start_kind"
        return
    speed_keys = [key for key in row.figures if key.endswith("speedup_ratio")]
    if row.status in FAILED_TIMING:
        speed_keys += [*_TIMES, "usd_per_million_tokens"]
    speeds = [key for key in speed_keys if row.get(key) is not None]
    if speeds:
        yield f"{row.status}, but with {', '.join(speeds)}"
    if not row.reason:
        yield f"{row.status}, but without a reason"


def _bounds(row: Row) -> Iterator[str]:
    for name in (key.removesuffix("_low") for key in row.figures if key.endswith("_low")):
        interval = row.interval(name)
        if interval is None:
            continue
        value, low, high = interval
        room = 1e-9 * max(1.0, abs(low))
        if not low - room <= value <= high + room:
            yield f"{name} {value:.4g} is not within [{low:.4g}, {high:.4g}]"


def _clocks(row: Row) -> Iterator[str]:
    wall, cpu = _interval(row, "speedup_ratio"), _interval(row, "cpu_speedup_ratio")
    if wall is None or cpu is None or row.speed_note:
        return
    if wall[2] < cpu[1] or cpu[2] < wall[1]:
        yield (
            f"{wall[0]:.2f} by wall time and {cpu[0]:.2f} by CPU time, beyond both intervals and without a speed_note"
        )


def _breaks_even(row: Row) -> Iterator[str]:
    for key, ratio in _PAYS:
        after, low = row.get(key), row.get(f"{ratio}_low")
        if after is not None and (low is None or low <= 1):
            yield f"{key} {after:.0f}, but {ratio} does not show it to be faster"


def _times(row: Row, reference: Row) -> Iterator[str]:
    """Compare the ratio of two times in the table with the ratio in the speedup column."""
    if row.latency_source != "interleaved" or reference.latency_source != "interleaved":
        if row.latency_source == "alone" and row["speedup_ratio"] is not None:
            yield "a speedup, but times that were not interleaved"
        return
    for time, name in _PAIRS:
        own_time, reference_time, ratio = _interval(row, time), _interval(reference, time), _interval(row, name)
        if own_time is None or reference_time is None or ratio is None:
            continue
        quotient, (value, low, high) = reference_time[0] / own_time[0], ratio
        width = max(_spread(own_time), _spread(reference_time))
        if not low / (1 + width + _ROOM) <= quotient <= high * (1 + width + _ROOM):
            yield f"{time} gives {quotient:.2f}×, {name} {value:.2f}× [{low:.2f}, {high:.2f}]"


def _spread(interval: tuple[float, float, float]) -> float:
    """Return the relative half-width of an interval, the larger side."""
    value, low, high = interval
    return max(high / value, value / low) - 1 if low > 0 else 0.0


def _interval(row: Row, key: str) -> tuple[float, float, float] | None:
    """Return a value with its bounds; without bounds, the value three times. None if it is unknown."""
    value = row.get(key)
    return row.interval(key) or (None if value is None else (value, value, value))
