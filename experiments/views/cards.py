"""What to run, as the page's first answer: a card for each cell that is best at something, and what taking it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.advice.choose import GOALS, Choice, Wish, choose, kept
from experiments.advice.words import exchange, size
from experiments.views.columns import Row

MIN_ACCURACY = 0.99
_NAMED = 5
_TITLES = {
    "latency": "Fastest tokens",
    "throughput": "Most tokens an hour",
    "memory": "Least memory",
    "cost": "Cheapest tokens",
}


def answers(found: Sequence[Row]) -> dict[str, Any] | None:
    """Return the cards for the model of most cells: speeds of different models are not ranked together.

    None where nothing was measured. `lost` names who would be a candidate, were it not for its answers.
    """
    models = [row["model"] for row in found if row["status"] == "ok"]
    if not models:
        return None
    model = max(sorted(set(models)), key=models.count)
    mine = [row for row in found if row["model"] == model]
    floor = MIN_ACCURACY if any(kept(row) is not None for row in mine) else None
    chosen = {goal: choose(mine, Wish(goal, min_accuracy=floor)) for goal in GOALS}
    without_price = "no price" in chosen["cost"].basis
    if without_price:
        del chosen["cost"]
    best = list({choice.best["record_id"]: choice.best for choice in chosen.values() if choice.best}.values())
    is_one_machine = len({row["machine"] for row in mine}) == 1
    return {
        "model": model,
        "floor": floor,
        "cards": [_card(row, chosen, without_price and is_one_machine) for row in best],
        "lost": _named([row["runtime"] for row in mine if floor and (kept(row) or 1.0) < floor]),
        "without_price": without_price,
    }


def _named(runtimes: Sequence[str]) -> list[str]:
    others = len(runtimes) - _NAMED
    return list(runtimes) if others <= 1 else [*runtimes[:_NAMED], f"{others} others"]


def _card(row: Row, chosen: dict[str, Choice], is_cheapest_too: bool) -> dict[str, Any]:
    """Return the card of a cell, for all goals at which it is the best."""
    won = {goal: choice for goal, choice in chosen.items() if choice.best is row}
    titles = [_TITLES[goal] + (" and per dollar" if goal == "throughput" and is_cheapest_too else "") for goal in won]
    choice = next(iter(won.values()))
    others = [one for one in choice.ranked if one is not row]
    return {
        "title": ", ".join([titles[0], *(title[0].lower() + title[1:] for title in titles[1:])]),
        "row": row,
        "figures": _figures(row, won),
        "other": (others[0]["runtime"], others[0] in choice.tied, exchange(row, others[0], Wish("latency")))
        if others
        else None,
        "basis": " and ".join(dict.fromkeys(one.basis for one in won.values())),
        "of": len(choice.ranked),
        "tied": [one["runtime"] for one in choice.tied][:3],
    }


def _figures(row: Row, won: dict[str, Choice]) -> list[tuple[str, str, str, bool]]:
    """Return title, value, what stands beside it, and whether the cell was chosen by it."""
    ratio, ttft, tpot = row["speedup_ratio"], row["ttft_s_p50"], row["tpot_s_p50"]
    tokens, dollars, share = row["throughput_tokens_per_s"], row["usd_per_million_tokens"], kept(row)
    peak = row["peak_device_bytes"] or row["peak_host_bytes"]
    interval = f"[{row['speedup_ratio_low']:.2f}, {row['speedup_ratio_high']:.2f}]" if ratio else ""
    speed = f"{ratio:.2f}×" if ratio else "1×" if row["is_reference"] else ""
    found = [
        ("decode speed", speed, interval or ("the reference" if speed else ""), "latency" in won and bool(speed)),
        ("time to first token", f"{ttft * 1e3:.1f} ms" if ttft else "", "", False),
        ("time a token", f"{tpot * 1e3:.2f} ms" if tpot else "", "", "latency" in won and not speed),
        ("offline", f"{tokens:,.0f} tok/s" if tokens else "", "", "throughput" in won),
        ("peak memory", size(peak) if peak else "", "", "memory" in won),
        ("a million tokens", f"${dollars:.4f}" if dollars else "", "", "cost" in won),
        ("answers", f"{100 * share:.1f} %" if share is not None else "not measured", "of the reference’s", False),
    ]
    return [one for one in found if one[1]]
