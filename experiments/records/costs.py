"""What a cell costs to run: money, energy, and how long a build must be used until it has paid.

Derived from what was measured; None where the price, the meter or the comparison is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HOUR_S = 3600.0


def money(record: Mapping[str, Any], row: Mapping[str, Any], throughput: Mapping[str, Any]) -> dict[str, Any]:
    """Return the price of a million new tokens and of a thousand requests, with its interval where it has one.

    `price_source` is interleaved where the rate is that of the comparison's batches, alone where it is that of the
    throughput benchmark, whose entry is `throughput`: one round, without an interval. The price an hour is the
    profile's, for all its devices together.
    """
    facts = record["config"].get("hw", {}).get("facts") or {}
    hour = facts.get("price_usd_per_hour")
    figures = throughput.get("figures", {})
    rates = [row[f"batched_tokens_per_s{end}"] for end in ("", "_high", "_low")]  # faster: cheaper
    source = "interleaved"
    tokens_per_request = (record.get("speed") or {}).get("options", {}).get("new_tokens")
    if rates[0] is None:
        rates, source = [figures.get("tokens_per_s"), None, None], "alone"
        requests = figures.get("requests_per_s")
        tokens_per_request = rates[0] / requests if rates[0] and requests else None
    dollars = [price_of_tokens(hour, rate) for rate in rates]
    each = tokens_per_request / 1e3 if tokens_per_request else None  # a thousand requests, in millions of tokens
    return {
        "price_usd_per_hour": hour,
        "price_source": None if dollars[0] is None else source,
        **dict(zip(_ends("usd_per_million_tokens"), dollars, strict=True)),
        **dict(
            zip(_ends("usd_per_thousand_requests"), [d * each if d and each else None for d in dollars], strict=True)
        ),
    }


def price_of_tokens(usd_per_hour: float | None, tokens_per_s: float | None) -> float | None:
    """Return the price of a million tokens; None where the hour's price or the rate is not known."""
    return usd_per_hour / _HOUR_S * 1e6 / tokens_per_s if usd_per_hour is not None and tokens_per_s else None


def _ends(key: str) -> tuple[str, str, str]:
    return key, f"{key}_low", f"{key}_high"


def energy(throughput: Mapping[str, Any]) -> dict[str, Any]:
    """Return the joules a new token, from the meter's reading around the throughput benchmark, or why there is none."""
    figures, shape = throughput.get("figures", {}), throughput.get("parameters", {})
    joules, tokens = figures.get("energy_j"), shape.get("new_tokens")
    reason = figures.get("energy_reason") or (None if joules is not None else "not measured")
    return {"energy_j_per_token": joules / tokens if joules is not None and tokens else None, "energy_reason": reason}


def start(load: Mapping[str, Any], latency: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is spent before the first usable token, and whether it was built now or came from the cache.

    `start_kind` is cold where something was built or compiled, warm where all of that was found, plain where there is
    nothing to build. `build_s` is what building what was found took when it was built; None where that is not known.
    """
    artifacts, counters = load.get("artifacts") or {}, latency.get("counters") or {}
    built = artifacts.get("built", 0) + counters.get("compile_cache_misses", 0)
    found = artifacts.get("found", 0) + counters.get("compile_cache_hits", 0)
    kind = "cold" if built else "warm" if found else "plain"
    return {
        "start_kind": kind if load else None,
        "build_s": artifacts.get("build_s") if artifacts.get("found") and not built else None,
    }


def pays_after(row: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return after how many tokens, and requests, a longer start is won back against the reference, with its interval.

    What is spent: loading, the first call, and the build of what was found in the cache. What is won: the reference's
    interleaved wall time, less that over the interleaved speedup; a request is a round of the comparison. None unless
    the cell is shown to be faster; 0 where it starts no later.
    """
    known = (row["load_s"], row["first_call_s"], reference.get("load_s"), reference.get("first_call_s"))
    made: dict[str, Any] = {}
    for unit, seconds, ratio in (
        ("tokens", reference.get("tpot_s_p50"), "speedup_ratio"),
        ("requests", reference.get("request_s"), "request_speedup_ratio"),
    ):
        ends = [row[f"{ratio}{end}"] for end in ("", "_high", "_low")]  # faster: sooner
        values: list[float | None] = [None] * 3
        if None not in (*known, *ends) and seconds and reference["latency_source"] == "interleaved" and ends[2] > 1:
            extra = round(known[0] + known[1] - known[2] - known[3] + (row["build_s"] or 0.0), 9)
            values = [_count(extra, seconds, end) for end in ends]
        made |= dict(zip(_ends(f"pays_after_{unit}"), values, strict=True))
    return made


def _count(extra_s: float, reference_s: float, speedup: float) -> float:
    return max(0.0, extra_s) / (reference_s * (1 - 1 / speedup))
