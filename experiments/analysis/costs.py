"""The costs of a cell: money, energy, and the break-even of a longer start.

Derived from measured figures; None without a price, a meter or a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.records.comparison import Speed
from runtime_matrix.experiments.records.metric import NOT_INTERLEAVED, UNKNOWN, Display, Metric, number, with_interval
from runtime_matrix.experiments.records.row import Figures, Row, Source, StartKind
from runtime_matrix.experiments.records.schema import Entry, Load, Record

_HOUR_S = 3600.0
_PAYS = (
    "until the faster decoding makes up for a longer start than the reference's: loading, first call, and builds, also "
    "those found in the cache. 0 if it starts no later; unknown unless the cell is shown to be faster."
)


def _price(pattern: str) -> Display:
    """Return the display of dollars with their interval, marked if the cell's rate was measured alone."""
    plain = with_interval(pattern)

    def show(row: Row, key: str) -> str:
        shown = plain(row, key)
        return f"{shown} alone" if row.price_source == "alone" and shown != UNKNOWN else shown

    return show


METRICS = (
    Metric(
        key="load_s",
        title="load",
        unit="s",
        group="start",
        rank=5,
        display=number("{:.2f}"),
        about=f"Loading, builds included. {NOT_INTERLEAVED}",
    ),
    Metric(
        key="first_call_s",
        title="first call",
        unit="s",
        group="start",
        display=number("{:.2f}"),
        about=f"The first generation, compilation included. {NOT_INTERLEAVED}",
    ),
    Metric(
        key="start_kind",
        title="start",
        group="start",
        rank=6,
        is_number=False,
        display=lambda row, key: row.start_kind or UNKNOWN,
        about="cold: artifacts were built or compiled; warm: all of them were cached; plain: there are none.",
    ),
    Metric(
        key="break_even_tokens",
        title="pays after",
        unit="tokens",
        group="start",
        display=with_interval("{:,.0f}"),
        about=f"Tokens {_PAYS}",
    ),
    Metric(
        key="break_even_requests",
        title="pays after",
        unit="requests",
        group="start",
        display=with_interval("{:,.0f}"),
        about=f"Requests {_PAYS}",
    ),
    Metric(
        key="usd_per_million_tokens",
        title="price",
        unit="$/M tok",
        group="cost",
        rank=5,
        display=_price("{:.3f}"),
        benchmark="throughput",
        about="Price per million new tokens of the interleaved batches, at the profile's hourly price; 95 % interval "
        "over launches. Marked alone if it is of the offline benchmark, one round of one cell: no comparison.",
    ),
    Metric(
        key="usd_per_thousand_requests",
        title="price",
        unit="$/1000 req",
        group="cost",
        display=_price("{:.4f}"),
        benchmark="throughput",
        about="Price per thousand requests of the interleaved batches or, marked alone, of the offline benchmark.",
    ),
)


@dataclass(frozen=True)
class Price:
    """The price figures of a row, and the source of their rate; None if the price is unknown."""

    figures: Figures
    source: Source | None


def money(record: Record, speed: Speed | None, rates: Figures, throughput: Entry | None) -> Price:
    """Return the price in dollars per million new tokens and per thousand requests, with intervals if there are any.

    `rates` are the figures of the row's speed. The source is interleaved if the rate is that of the comparison's
    batches, and alone if it is that of the throughput benchmark: one round, no interval. The hourly price is the
    profile's, for all its devices together.
    """
    facts = record.config.get("hw", {}).get("facts") or {}
    usd_per_hour = facts.get("price_usd_per_hour")
    ends = [rates[f"batched_tokens_per_s{end}"] for end in ("", "_high", "_low")]  # the high rate gives the low price
    source: Source = "interleaved"
    tokens_per_request = speed.options.get("new_tokens") if speed is not None else None
    if ends[0] is None:
        rate = throughput.figure("tokens_per_s") if throughput else None
        requests = throughput.figure("requests_per_s") if throughput else None
        ends, source = [rate, None, None], "alone"
        tokens_per_request = rate / requests if rate and requests else None
    dollars = [price_of_tokens(usd_per_hour, rate) for rate in ends]
    tokens_factor = tokens_per_request / 1e3 if tokens_per_request else None  # millions of tokens per thousand requests
    figures: Figures = {
        "price_usd_per_hour": usd_per_hour,
        **dict(zip(_ends("usd_per_million_tokens"), dollars, strict=True)),
        **dict(
            zip(
                _ends("usd_per_thousand_requests"),
                [dollar * tokens_factor if dollar and tokens_factor else None for dollar in dollars],
                strict=True,
            )
        ),
    }
    return Price(figures, None if dollars[0] is None else source)


def price_of_tokens(usd_per_hour: float | None, tokens_per_s: float | None) -> float | None:
    """Return dollars per million tokens; None if the hourly price or the rate is unknown."""
    return usd_per_hour / _HOUR_S * 1e6 / tokens_per_s if usd_per_hour is not None and tokens_per_s else None


def _ends(key: str) -> tuple[str, str, str]:
    return key, f"{key}_low", f"{key}_high"


def energy(throughput: Entry | None) -> tuple[float | None, str | None]:
    """Return joules per new token of the throughput benchmark, or None and the reason why they are unknown."""
    if throughput is None:
        return None, "not measured"
    joules, tokens = throughput.figure("energy_j"), throughput.parameter("new_tokens")
    reason = throughput.note("energy_reason") or (None if joules is not None else "not measured")
    return joules / tokens if joules is not None and tokens else None, reason


def start(load: Load | None, latency: Entry | None) -> tuple[StartKind | None, float | None]:
    """Return the kind of start, and the seconds that the cached artifacts once took to build.

    The start is cold if artifacts were built or compiled, warm if all were cached, plain if there are none. The seconds
    are None for other kinds or if unknown.
    """
    if load is None:
        return None, None
    counters = latency.counters if latency is not None else {}
    built = load.artifacts.get("built", 0) + counters.get("compile_cache_misses", 0)
    reused = load.artifacts.get("found", 0) + counters.get("compile_cache_hits", 0)
    kind: StartKind = "cold" if built else "warm" if reused else "plain"
    return kind, load.artifacts.get("build_s") if load.artifacts.get("found") and not built else None


def break_even(row: Row, reference: Row | None) -> Figures:
    """Return the tokens and requests after which a longer start than the reference's breaks even, with intervals.

    Spent: loading, the first call, and the build time of cached artifacts. Saved per token or request: the reference's
    interleaved wall time, less that time over the interleaved speedup; a request is a round of the comparison. None
    unless the cell is shown to be faster; 0 if it starts no later.
    """
    extra_s = _extra_start(row, reference)
    figures: Figures = {}
    for unit, time, ratio in (
        ("tokens", "tpot_s_p50", "speedup_ratio"),
        ("requests", "request_s", "request_speedup_ratio"),
    ):
        seconds = reference[time] if reference is not None and reference.latency_source == "interleaved" else None
        values: list[float | None] = [None] * 3
        interval = row.interval(ratio)
        if extra_s is not None and seconds and interval is not None and interval[1] > 1:
            estimate, low, high = interval
            # The high speedup gives the low count.
            values = [_count(extra_s, seconds, end) for end in (estimate, high, low)]
        figures |= dict(zip(_ends(f"break_even_{unit}"), values, strict=True))
    return figures


def _extra_start(row: Row, reference: Row | None) -> float | None:
    """Return the seconds by which the first token is later than the reference's; None if a time is unknown."""
    if reference is None:
        return None
    times = (row["load_s"], row["first_call_s"], reference["load_s"], reference["first_call_s"])
    known = [seconds for seconds in times if seconds is not None]
    if len(known) < 4:
        return None
    return round(known[0] + known[1] - known[2] - known[3] + (row["build_s"] or 0.0), 9)


def _count(extra_s: float, reference_s: float, speedup: float) -> float:
    return max(0.0, extra_s) / (reference_s * (1 - 1 / speedup))
