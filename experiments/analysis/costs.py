"""What a cell costs to run: money, energy, and how long a build must be used until it has paid.

Derived from what was measured; None where the price, the meter or the comparison is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.records.comparison import Speed
from runtime_matrix.experiments.records.metric import UNKNOWN, Display, Metric, number, with_interval
from runtime_matrix.experiments.records.row import Figures, Row, Source, StartKind
from runtime_matrix.experiments.records.schema import Entry, Load, Record

_HOUR_S = 3600.0
_ORDER = "Of cells that ran one after the other: an order of magnitude, no comparison."
_PAYS = (
    "until a longer start is won back against the reference: loading, the first call, and the build of what was found "
    "in the cache. 0 where it starts no later; unknown unless the cell is shown to be faster."
)


def _price(pattern: str) -> Display:
    """Show dollars with their interval, marked where the cell's rate was measured alone."""
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
        about=f"Loading, with all that it builds. {_ORDER}",
    ),
    Metric(
        key="first_call_s",
        title="first call",
        unit="s",
        group="start",
        display=number("{:.2f}"),
        about=f"The first generation, where compiling happens. {_ORDER}",
    ),
    Metric(
        key="start_kind",
        title="start",
        group="start",
        rank=6,
        is_number=False,
        display=lambda row, key: row.start_kind or UNKNOWN,
        about="cold: something was built or compiled; warm: all of that was found in the cache; plain: nothing to "
        "build.",
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
        about="A million new tokens of the interleaved batches at the profile's price an hour; 95 % interval over "
        "launches. Marked alone where it is of the offline benchmark, one round of one cell: no comparison.",
    ),
    Metric(
        key="usd_per_thousand_requests",
        title="price",
        unit="$/1000 req",
        group="cost",
        display=_price("{:.4f}"),
        benchmark="throughput",
        about="A thousand requests of the interleaved batches, or, marked alone, of the offline benchmark.",
    ),
)


@dataclass(frozen=True)
class Price:
    """The figures of a row, and of what their rate is."""

    figures: Figures
    source: Source | None


def money(record: Record, speed: Speed | None, rates: Figures, throughput: Entry | None) -> Price:
    """Return the price of a million new tokens and of a thousand requests, with its interval where it has one.

    `rates` are the figures of the row's speed. The source is interleaved where the rate is that of the comparison's
    batches, alone where it is that of the throughput benchmark: one round, without an interval. The price per hour is
    the profile's, for all its devices together.
    """
    facts = record.config.get("hw", {}).get("facts") or {}
    hour = facts.get("price_usd_per_hour")
    ends = [rates[f"batched_tokens_per_s{end}"] for end in ("", "_high", "_low")]  # faster: cheaper
    source: Source = "interleaved"
    tokens_per_request = speed.options.get("new_tokens") if speed is not None else None
    if ends[0] is None:
        rate = throughput.figure("tokens_per_s") if throughput else None
        requests = throughput.figure("requests_per_s") if throughput else None
        ends, source = [rate, None, None], "alone"
        tokens_per_request = rate / requests if rate and requests else None
    dollars = [price_of_tokens(hour, rate) for rate in ends]
    each = tokens_per_request / 1e3 if tokens_per_request else None  # a thousand requests, in millions of tokens
    figures: Figures = {
        "price_usd_per_hour": hour,
        **dict(zip(_ends("usd_per_million_tokens"), dollars, strict=True)),
        **dict(
            zip(_ends("usd_per_thousand_requests"), [d * each if d and each else None for d in dollars], strict=True)
        ),
    }
    return Price(figures, None if dollars[0] is None else source)


def price_of_tokens(usd_per_hour: float | None, tokens_per_s: float | None) -> float | None:
    """Return the price of a million tokens; None where the hour's price or the rate is not known."""
    return usd_per_hour / _HOUR_S * 1e6 / tokens_per_s if usd_per_hour is not None and tokens_per_s else None


def _ends(key: str) -> tuple[str, str, str]:
    return key, f"{key}_low", f"{key}_high"


def energy(throughput: Entry | None) -> tuple[float | None, str | None]:
    """Return the joules per new token, by the meter around the throughput benchmark, or why they are unknown."""
    if throughput is None:
        return None, "not measured"
    joules, tokens = throughput.figure("energy_j"), throughput.parameter("new_tokens")
    reason = throughput.note("energy_reason") or (None if joules is not None else "not measured")
    return joules / tokens if joules is not None and tokens else None, reason


def start(load: Load | None, latency: Entry | None) -> tuple[StartKind | None, float | None]:
    """Return whether what is needed before the first token was built now or came from the cache, and what building it
    took in s.

    It is cold where something was built or compiled, warm where all of that was found, plain where there is nothing to
    build. The seconds are of what was found, when it was built; None where that is not known.
    """
    if load is None:
        return None, None
    counters = latency.counters if latency is not None else {}
    built = load.artifacts.get("built", 0) + counters.get("compile_cache_misses", 0)
    reused = load.artifacts.get("found", 0) + counters.get("compile_cache_hits", 0)
    kind: StartKind = "cold" if built else "warm" if reused else "plain"
    return kind, load.artifacts.get("build_s") if load.artifacts.get("found") and not built else None


def break_even(row: Row, reference: Row | None) -> Figures:
    """Return after how many tokens, and requests, a longer start is won back against the reference, with its interval.

    What is spent: loading, the first call, and the build of what was found in the cache. What is won: the reference's
    interleaved wall time, less that over the interleaved speedup; a request is a round of the comparison. None unless
    the cell is shown to be faster; 0 where it starts no later.
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
            values = [_count(extra_s, seconds, end) for end in (estimate, high, low)]  # faster: sooner
        figures |= dict(zip(_ends(f"break_even_{unit}"), values, strict=True))
    return figures


def _extra_start(row: Row, reference: Row | None) -> float | None:
    """Return by how many seconds the first token comes later than the reference's."""
    if reference is None:
        return None
    mine, theirs = ([other["load_s"], other["first_call_s"]] for other in (row, reference))
    known = [seconds for seconds in (*mine, *theirs) if seconds is not None]
    if len(known) < 4:
        return None
    return round(known[0] + known[1] - known[2] - known[3] + (row["build_s"] or 0.0), 9)


def _count(extra_s: float, reference_s: float, speedup: float) -> float:
    return max(0.0, extra_s) / (reference_s * (1 - 1 / speedup))
