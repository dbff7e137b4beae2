"""What a cell costs to run: money, energy, and how long a build must be used until it has paid.

Derived from what was measured; None where the price, the meter or the comparison is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HOUR_S = 3600.0


def money(record: Mapping[str, Any], throughput: Mapping[str, Any]) -> dict[str, Any]:
    """Return the price of a million new tokens and of a thousand requests at the measured offline throughput.

    `throughput` is that benchmark's entry. The price an hour is the profile's, for all its devices together.
    """
    facts = record["config"].get("hw", {}).get("facts") or {}
    hour = facts.get("price_usd_per_hour")
    figures = throughput.get("figures", {})
    tokens, requests = figures.get("tokens_per_s"), figures.get("requests_per_s")
    second = None if hour is None else hour / _HOUR_S
    return {
        "price_usd_per_hour": hour,
        "usd_per_million_tokens": second * 1e6 / tokens if second is not None and tokens else None,
        "usd_per_thousand_requests": second * 1e3 / requests if second is not None and requests else None,
    }


def energy(throughput: Mapping[str, Any]) -> dict[str, Any]:
    """Return the joules a new token, from the meter's reading around the throughput benchmark, or why there is none."""
    figures, shape = throughput.get("figures", {}), throughput.get("parameters", {})
    joules, tokens = figures.get("energy_j"), shape.get("new_tokens")
    reason = figures.get("energy_reason") or (None if joules is not None else "not measured")
    return {"energy_j_per_token": joules / tokens if joules is not None and tokens else None, "energy_reason": reason}


def pays_after(row: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return after how many tokens what is spent before the first usable one is won back against the reference.

    What is spent: loading and the first call. What is won a token: the reference's time, less that over the interleaved
    speedup. None where the cell is not faster, or nothing was interleaved; 0 where it starts no later.
    """
    names = ("pays_after_tokens", "pays_after_tokens_low", "pays_after_tokens_high")
    known = (row["load_s"], row["first_call_s"], reference.get("load_s"), reference.get("first_call_s"))
    tpot = reference.get("tpot_s_p50")
    if row["speedup_ratio"] is None or tpot is None or None in known:
        return dict.fromkeys(names)
    extra = known[0] + known[1] - known[2] - known[3]
    ratios = (row["speedup_ratio"], row["speedup_ratio_high"], row["speedup_ratio_low"])  # faster: sooner
    return {name: _tokens(extra, tpot, ratio) for name, ratio in zip(names, ratios, strict=True)}


def _tokens(extra_s: float, reference_tpot_s: float, speedup: float) -> float | None:
    if extra_s <= 0:
        return 0.0 if speedup >= 1 else None
    return extra_s / (reference_tpot_s * (1 - 1 / speedup)) if speedup > 1 else None
