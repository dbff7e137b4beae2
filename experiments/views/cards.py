"""What to run, as the page's first answer: a card for each cell that is best at something, and what taking it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime_matrix.experiments.advice.choose import GOALS, Choice, Wish, choose
from runtime_matrix.experiments.advice.kept import is_shown, kept, unshown
from runtime_matrix.experiments.advice.words import exchange, not_compared, size
from runtime_matrix.experiments.views.columns import Row, is_alarm

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

    None where nothing was measured. `lost` names who would be a candidate, were it not for its answers; `unshown` who
    may keep them, with what would show it; `not_ranked` the goals for which nothing can be called the best.
    """
    models = [row["model"] for row in found if row["status"] == "ok"]
    if not models:
        return None
    model = max(sorted(set(models)), key=models.count)
    mine = [row for row in found if row["model"] == model]
    measured = [row for row in mine if row["status"] == "ok"]
    floor = MIN_ACCURACY if any(kept(row) is not None for row in measured) else None
    chosen = {goal: choose(mine, Wish(goal, min_accuracy=floor)) for goal in GOALS}
    without_price = not chosen["cost"].has_price
    if without_price:
        del chosen["cost"]
    is_alone = all(row["is_reference"] for row in measured)
    best = (
        []
        if is_alone
        else list({choice.best["record_id"]: choice.best for choice in chosen.values() if choice.best}.values())
    )
    unsure = [(row, why) for row in measured if floor and (why := unshown(row, floor))]
    return {
        "model": measured[0].get("model_title") or model,
        "floor": floor,
        "cards": [_card(row, chosen) for row in best],
        "lost": _named([row["runtime"] for row in measured if floor and (kept(row) or 1.0) < floor]),
        "unshown": [(row["runtime"], _speed(row), why) for row, why in unsure],
        "is_none_shown": bool(unsure)
        and not any(floor and is_shown(row, floor) for row in measured if not row["is_reference"]),
        "alarms": [not_compared(row) for row in mine if is_alarm(row)],
        "not_ranked": [(_TITLES[goal], choice.not_ranked) for goal, choice in chosen.items() if choice.not_ranked],
        "without_price": without_price and not is_alone,
        "is_alone": is_alone,  # the reference: the sentence above the cards says how to go on
    }


def _speed(row: Row) -> str:
    return f"decode {row['speedup_ratio']:.2f}×" if row["speedup_ratio"] else ""


def _named(runtimes: Sequence[str]) -> list[str]:
    others = len(runtimes) - _NAMED
    return list(runtimes) if others <= 1 else [*runtimes[:_NAMED], f"{others} others"]


def _card(row: Row, chosen: dict[str, Choice]) -> dict[str, Any]:
    """Return the card of a cell, for all goals at which it is the best."""
    won = {goal: choice for goal, choice in chosen.items() if choice.best is row}
    titles = [_TITLES[goal] for goal in won]
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
    batched, offline = row["batched_tokens_per_s"], row["throughput_tokens_per_s"]
    dollars, share = row["usd_per_million_tokens"], kept(row)
    peak = row["peak_device_bytes"] or row["peak_host_bytes"]
    alone = "alone" if row["latency_source"] == "alone" else ""
    price_alone = "alone" if row["price_source"] == "alone" else _interval(row, "usd_per_million_tokens", "{:.4f}")
    speed = f"{ratio:.2f}×" if ratio else "1×" if row["is_reference"] else ""
    beside = _interval(row, "speedup_ratio", "{:.2f}") or ("the reference" if speed else "")
    found = [
        ("decode speed", speed, beside, "latency" in won and bool(speed)),
        ("time to first token", f"{ttft * 1e3:.1f} ms" if ttft else "", alone, False),
        ("time a token", f"{tpot * 1e3:.2f} ms" if tpot else "", alone, "latency" in won and not speed),
        ("batched", f"{batched:,.0f} tok/s" if batched else "", "", "throughput" in won),
        ("offline", f"{offline:,.0f} tok/s" if offline and not batched else "", "alone", False),
        ("peak memory", size(peak) if peak else "", "", "memory" in won),
        ("a million tokens", f"${dollars:.4f}" if dollars else "", price_alone, "cost" in won),
        ("answers", f"{100 * share:.1f} %" if share is not None else "not measured", "of the reference’s", False),
    ]
    return [one for one in found if one[1]]


def _interval(row: Row, key: str, pattern: str) -> str:
    low, high = (row.get(f"{key}{end}") for end in ("_low", "_high"))
    return "" if low is None or high is None else f"[{pattern.format(low)}, {pattern.format(high)}]"
