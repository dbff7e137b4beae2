"""The page's recommendations: one card per cell that is best for a goal, and how the runner-up compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runtime_matrix.experiments.advice.choose import GOALS, Constraints, Recommendation, choose
from runtime_matrix.experiments.advice.kept import is_shown, kept, unshown
from runtime_matrix.experiments.advice.phrasing import exchange, not_compared, size
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.ranking import memory_key
from runtime_matrix.experiments.records.row import Row

MIN_ACCURACY = 0.99
_NAMED = 5
_TITLES = {
    "latency": "Fastest tokens",
    "throughput": "Most tokens per hour",
    "memory": "Least memory",
    "cost": "Cheapest tokens",
}


class Figure(NamedTuple):
    """One line of a card."""

    title: str
    value: str
    beside: str  # in small print
    is_won: bool  # the cell is the best by this figure


class Other(NamedTuple):
    """The next best cell."""

    runtime: str
    is_tied: bool
    exchange: str  # its gains and costs against the best


class Unshown(NamedTuple):
    """A cell whose estimate reaches the accuracy floor, but whose lower bound does not."""

    runtime: str
    speed: str
    why: str  # with the number of items that would be enough


@dataclass(frozen=True)
class Card:
    """A cell with all goals for which it is the best."""

    title: str
    row: Row
    figures: list[Figure]
    other: Other | None
    basis: str  # the measure that it was ranked by
    of: int  # number of cells that qualify
    tied: list[str]


@dataclass(frozen=True)
class Answers:
    """The cards of one model, and the notes beside them."""

    model: str
    floor: float | None  # the share of the reference's scores that is to be kept
    cards: list[Card]
    lost: list[str]  # runtimes whose estimate is below the floor
    unshown: list[Unshown]
    is_none_shown: bool
    alarms: list[str]
    not_ranked: list[tuple[str, str]]  # goals without a ranking, and the reason
    without_price: bool
    is_alone: bool  # only the reference is measured: the verdict names the next command, or the cells in red


def answers(rows: Sequence[Row]) -> Answers | None:
    """Return the cards for the model with the most cells; None if nothing was measured.

    Speeds of different models are not ranked together.
    """
    models = [row.model for row in rows if row.status == "ok"]
    if not models:
        return None
    model = max(sorted(set(models)), key=models.count)
    model_rows = [row for row in rows if row.model == model]
    measured = [row for row in model_rows if row.status == "ok"]
    floor = MIN_ACCURACY if any(kept(row) is not None for row in measured) else None
    recommendations = {goal: choose(model_rows, Constraints(goal, min_accuracy=floor)) for goal in GOALS}
    without_price = not recommendations["cost"].has_price
    if without_price:
        del recommendations["cost"]
    is_alone = all(row.is_reference for row in measured)
    unshown_rows = [(row, why) for row in measured if floor and (why := unshown(row, floor))]
    return Answers(
        model=measured[0].model_title or model,
        floor=floor,
        cards=[] if is_alone else [_card(row, recommendations) for row in _best(recommendations)],
        lost=_named([row.runtime for row in measured if floor and (share := kept(row)) is not None and share < floor]),
        unshown=[Unshown(row.runtime, _speed(row), why) for row, why in unshown_rows],
        is_none_shown=bool(unshown_rows)
        and not any(floor and is_shown(row, floor) for row in measured if not row.is_reference),
        alarms=[not_compared(row) for row in model_rows if is_alarm(row)],
        not_ranked=[
            (_TITLES[goal], choice.not_ranked) for goal, choice in recommendations.items() if choice.not_ranked
        ],
        without_price=without_price and not is_alone,
        is_alone=is_alone,
    )


def _best(recommendations: Mapping[str, Recommendation]) -> list[Row]:
    """Return the best cells without duplicates."""
    return list({choice.best.record_id: choice.best for choice in recommendations.values() if choice.best}.values())


def _speed(row: Row) -> str:
    return f"decode {ratio:.2f}×" if (ratio := row["speedup_ratio"]) else ""


def _named(runtimes: Sequence[str]) -> list[str]:
    others = len(runtimes) - _NAMED
    return list(runtimes) if others <= 1 else [*runtimes[:_NAMED], f"{others} others"]


def _card(row: Row, recommendations: Mapping[str, Recommendation]) -> Card:
    won = {goal: choice for goal, choice in recommendations.items() if choice.best is row}
    titles = [_TITLES[goal] for goal in won]
    choice = next(iter(won.values()))
    return Card(
        title=", ".join([titles[0], *(title[0].lower() + title[1:] for title in titles[1:])]),
        row=row,
        figures=_figures(row, won),
        other=_other(row, choice),
        basis=" and ".join(dict.fromkeys(choice.basis for choice in won.values())),
        of=len(choice.ranked),
        tied=[tied.runtime for tied in choice.tied][:3],
    )


def _other(row: Row, choice: Recommendation) -> Other | None:
    other = next((ranked for ranked in choice.ranked if ranked is not row), None)
    return (
        None
        if other is None
        else Other(other.runtime, other in choice.tied, exchange(row, other, Constraints("latency")))
    )


def _figures(row: Row, won: Mapping[str, Recommendation]) -> list[Figure]:
    ratio, ttft, tpot = row["speedup_ratio"], row["ttft_s_p50"], row["tpot_s_p50"]
    batched, offline = row["batched_tokens_per_s"], row["throughput_tokens_per_s"]
    dollars, share = row["usd_per_million_tokens"], kept(row)
    peak = row[memory_key(row)]
    alone = "alone" if row.latency_source == "alone" else ""
    price_alone = "alone" if row.price_source == "alone" else _interval(row, "usd_per_million_tokens", "{:.4f}")
    speed = f"{ratio:.2f}×" if ratio else "1×" if row.is_reference else ""
    beside = _interval(row, "speedup_ratio", "{:.2f}") or ("the reference" if speed else "")
    figures = [
        Figure("decode speed", speed, beside, "latency" in won and bool(speed)),
        Figure("time to first token", f"{ttft * 1e3:.1f} ms" if ttft else "", alone, False),
        Figure("time per token", f"{tpot * 1e3:.2f} ms" if tpot else "", alone, "latency" in won and not speed),
        Figure("batched", f"{batched:,.0f} tok/s" if batched else "", "", "throughput" in won),
        Figure("offline", f"{offline:,.0f} tok/s" if offline and not batched else "", "alone", False),
        Figure("peak memory", size(peak) if peak else "", "", "memory" in won),
        Figure("per million tokens", f"${dollars:.4f}" if dollars else "", price_alone, "cost" in won),
        Figure("answers", f"{100 * share:.1f} %" if share is not None else "not measured", "of the reference’s", False),
    ]
    return [figure for figure in figures if figure.value]


def _interval(row: Row, key: str, pattern: str) -> str:
    low, high = (row.get(f"{key}{end}") for end in ("_low", "_high"))
    return "" if low is None or high is None else f"[{pattern.format(low)}, {pattern.format(high)}]"
