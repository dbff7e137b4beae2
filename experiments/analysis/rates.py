"""How many items a benchmark evaluates per hour, what they cost, and the projection to all of MMLU."""

from __future__ import annotations

from collections.abc import Mapping

from runtime_matrix.experiments.records.metric import NOT_INTERLEAVED, Metric, number
from runtime_matrix.experiments.records.row import Figures, Row
from runtime_matrix.experiments.records.schema import Entry, Record
from runtime_matrix.experiments.tasks.registry import benchmarks, scores

MMLU_QUESTIONS = 14_042  # of its test set, 57 subjects (Hendrycks et al. 2021, arXiv 2009.03300)
MMLU_HOURS, MMLU_USD = "full_mmlu_hours", "full_mmlu_usd"
_CHOICES = "multiple_choice"
_HOUR_S = 3600.0
_PROJECTED = (
    f"{MMLU_QUESTIONS:,} questions at the rate of multiple choice: as long as those measured, loading not included."
)
_SHARES = {name: score for name, score in scores().items() if score.kind.has_answers}


def _rate(name: str) -> Metric:
    title = benchmarks()[name].title
    return Metric(
        key=f"{_SHARES[name].prefix}_items_per_hour",
        title=title,
        unit="items/h",
        group="throughput",
        rank=9,
        display=number("{:,.0f}"),
        benchmark=title,
        about="Items evaluated per hour, from prompts to scores, loading not included; unknown if answers or verdicts "
        f"were cached. {NOT_INTERLEAVED}",
    )


def _price(name: str) -> Metric:
    title = benchmarks()[name].title
    return Metric(
        key=f"usd_per_thousand_{_SHARES[name].prefix}_items",
        title=title,
        unit="$/1000 items",
        group="cost",
        rank=9,
        display=number("{:.4f}"),
        benchmark=title,
        about=f"Price of a thousand evaluated items at the profile's hourly price. {NOT_INTERLEAVED}",
    )


METRICS = (
    *map(_rate, _SHARES),
    *map(_price, _SHARES),
    Metric(
        key=MMLU_HOURS,
        title="full MMLU",
        unit="h",
        group="throughput",
        rank=9,
        display=number("{:.3g}"),
        about=f"Hours of {_PROJECTED} {NOT_INTERLEAVED}",
    ),
    Metric(
        key=MMLU_USD,
        title="full MMLU",
        unit="$",
        group="cost",
        rank=9,
        display=number("{:.3g}"),
        about=f"Price of {_PROJECTED} {NOT_INTERLEAVED}",
    ),
)


def rates(record: Record, entries: Mapping[str, Entry]) -> Figures:
    """Return the items per hour and the prices of a cell's benchmarks; None where unknown."""
    facts = record.config.get("hw", {}).get("facts") or {}
    usd_per_hour = facts.get("price_usd_per_hour")
    figures: Figures = {}
    for name, score in _SHARES.items():
        rate = _items_per_hour(entries.get(name))
        figures[f"{score.prefix}_items_per_hour"] = rate
        figures[f"usd_per_thousand_{score.prefix}_items"] = (
            1000 * usd_per_hour / rate if rate and usd_per_hour is not None else None
        )
    hours = mmlu_hours(figures.get(f"{_SHARES[_CHOICES].prefix}_items_per_hour"))
    dollars = usd_per_hour * hours if hours is not None and usd_per_hour is not None else None
    return {**figures, MMLU_HOURS: hours, MMLU_USD: dollars}


def mmlu_hours(items_per_hour: float | None) -> float | None:
    """Return the hours of all of MMLU at a rate; None if it is unknown."""
    return MMLU_QUESTIONS / items_per_hour if items_per_hour else None


def mmlu_sentence(row: Row, usd_per_hour: float | None) -> str | None:
    """Return the projected hours of all of MMLU, and their price, as a sentence; None if the rate is unknown."""
    hours = row.get(MMLU_HOURS)
    if hours is None:
        return None
    dollars = row.get(MMLU_USD) if usd_per_hour is None else usd_per_hour * hours
    price = "" if dollars is None else f", ${dollars:.3g}"
    questions = f"{MMLU_QUESTIONS:,} questions as long as these"
    return f"all of MMLU at its rate of multiple choice ({questions}): {hours:.3g} h{price}"


def _items_per_hour(entry: Entry | None) -> float | None:
    if entry is None or not entry.duration_s:
        return None
    items = entry.figure("items")
    if items is None or entry.figure("cached_responses") or entry.figure("cached_verdicts"):
        return None
    return items * _HOUR_S / entry.duration_s
