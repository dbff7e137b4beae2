"""Advice as text: the choice, the gains and costs of each alternative, and caveats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from runtime_matrix.experiments.advice.choose import GIB, Constraints, Recommendation, memory_gib, price
from runtime_matrix.experiments.advice.kept import kept, kept_scores, unshown
from runtime_matrix.experiments.analysis.rates import mmlu_sentence
from runtime_matrix.experiments.records.row import Row

_ALTERNATIVES = 3
_FEW_CELLS = 3
_FEW_LAUNCHES = 4  # with fewer, the variance and thus the interval is unreliable


def advice_lines(recommendation: Recommendation, constraints: Constraints) -> list[str]:
    """Return the recommendation, its alternatives and the excluded cells, one line per cell."""
    notes = [*(not_compared(row) for row in recommendation.alarms), *_nothing_shown(recommendation, constraints)]
    if recommendation.not_ranked is not None:
        return [f"not ranked: {recommendation.not_ranked}", *notes]
    if recommendation.best is None:
        return [*_nothing(recommendation, constraints), *notes]
    best = recommendation.best
    count_text = (
        f"of {len(recommendation.ranked)} cells that qualify"
        if len(recommendation.ranked) > 1
        else "; no other cell qualifies"
    )
    lines = [f"run {best.runtime}: best {recommendation.basis} {count_text}".replace(" ;", ";")]
    lines.append(f"  {describe(best, constraints)}")
    if best.command:
        lines.append(f"  {best.command}")
    if projection := mmlu_sentence(best, constraints.usd_per_hour):
        lines.append(f"  {projection}")
    for row in recommendation.ranked[1 : 1 + _ALTERNATIVES]:
        tie_text = " (tied with it)" if row in recommendation.tied else ""
        lines.append(f"or {row.runtime}{tie_text}: {exchange(best, row, constraints)}")
    return [*lines, *(f"not {row.runtime}: {why}" for row, why in recommendation.unranked), *notes]


def not_compared(row: Row) -> str:
    """Return the line for a cell with wrong outputs or invalid timing, which is never chosen."""
    return f"not compared: {row.runtime}: {row.status}: {row.reason}"


def _nothing_shown(recommendation: Recommendation, constraints: Constraints) -> list[str]:
    """Return a note if only the reference is shown to keep its scores, with the number of items that would do."""
    floor = constraints.min_accuracy
    if floor is None or constraints.accept_unshown or any(not row.is_reference for row in recommendation.ranked):
        return []
    rows = [row for row, _ in recommendation.unranked if unshown(row, floor)]
    if not rows:
        return []
    needed = [
        (max(counts), row.runtime)
        for row in rows
        if (counts := [n for score in kept_scores(row) if (n := score.items_to_show(floor)) is not None])
    ]
    note = f"note: no cell but the reference is shown to keep {100 * floor:g} % of its scores"
    if needed:
        items, name = min(needed)
        note += f"; about {items:,} items in each benchmark would show it for {name}"
    return [f"{note}; --accept-unshown accepts estimates"]


def describe(row: Row, constraints: Constraints) -> str:
    """Return the figures behind a choice as one line; unmeasured ones are left out."""
    ttft, tpot, memory, share = row["ttft_s_p50"], row["tpot_s_p50"], memory_gib(row), kept(row)
    alone = " alone" if row.latency_source == "alone" else ""
    batched, offline = row.get("batched_tokens_per_s"), row["throughput_tokens_per_s"]
    lone_price, dollars = row.get("usd_per_million_tokens"), price(row, constraints)
    parts = [
        _ratio("decode", row, "speedup_ratio"),
        f"TTFT {ttft * 1e3:.1f} ms{alone}" if ttft else "",
        f"TPOT {tpot * 1e3:.2f} ms{alone}" if tpot else "",
        f"{batched:,.0f} tokens/s batched" if batched else f"{offline:,.0f} tokens/s offline, alone" if offline else "",
        _ratio("batches", row, "throughput_speedup_ratio"),
        f"${dollars[1]:.4f} [{dollars[0]:.4f}, {dollars[2]:.4f}] per million tokens" if dollars else "",
        f"${lone_price:.4f} per million tokens, alone" if lone_price and not dollars else "",
        f"peak {size(memory * GIB)}" if memory else "",
        f"keeps {100 * share:.1f} % of the reference's scores" if share is not None else "answers not measured",
    ]
    return ", ".join(part for part in parts if part)


def _ratio(name: str, row: Row, key: str) -> str:
    interval = row.interval(key)
    return f"{name} {interval[0]:.2f}× [{interval[1]:.2f}, {interval[2]:.2f}]" if interval else ""


def size(count: float) -> str:
    """Return bytes as text in MiB or GiB."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / 2**20:,.0f} MiB"


def exchange(best: Row, row: Row, constraints: Constraints) -> str:
    """Return the costs and gains of `row` against `best`; changes below 0.1 % are left out."""
    before, after = price(best, constraints), price(row, constraints)
    pairs = (
        ("decode speed", best["speedup_ratio"] or _one(best), row["speedup_ratio"] or _one(row), "high"),
        ("batch speed", _batch_speed(best), _batch_speed(row), "high"),
        ("memory", memory_gib(best), memory_gib(row), "low"),
        ("price per token", before and before[1], after and after[1], "low"),
        ("accuracy", kept(best), kept(row), "high"),
    )
    gains: list[str] = []
    costs: list[str] = []
    for name, old, new, better in pairs:
        if not old or new is None or abs(new / old - 1) < 0.001:
            continue
        (gains if (new > old) == (better == "high") else costs).append(_change(name, new / old))
    return (
        ", but ".join(", ".join(changes) for changes in (costs, gains) if changes)
        or "no difference in what was measured"
    )


def _change(name: str, ratio: float) -> str:
    """Return a change as text: `half the decode speed`, `13 % less memory`."""
    if ratio >= 2:
        return f"{ratio:.2g} times the {name}"
    if 0.45 <= ratio <= 0.55:
        return f"half the {name}"
    more, less = {"memory": ("more", "less")}.get(name, ("higher", "lower"))
    share = 100 * abs(ratio - 1)
    return f"{share:{'.0f' if share >= 10 else '.1f'}}\N{NO-BREAK SPACE}% {more if ratio > 1 else less} {name}"


def caveats(rows: Sequence[Row], local_machines: Mapping[str, str], constraints: Constraints) -> list[str]:
    """Return caveats of the advice. `local_machines`: this machine's digest by hardware profile."""
    measured = [row for row in rows if row.status == "ok"]
    notes = []
    if constraints.min_accuracy is not None and constraints.accept_unshown:
        notes += [
            f"accepted by its estimate alone: {row.runtime} {why}"
            for row in measured
            if (why := unshown(row, constraints.min_accuracy))
        ]
    if len(measured) > 1 and not any(row["speedup_ratio"] is not None for row in measured):
        notes.append("no speedup by wall time is known: times that are not interleaved cannot be compared")
    if len(measured) < _FEW_CELLS:
        notes.append(f"few records: {len(measured)} measured cells; a sweep has more to choose from")
    machines = {row.machine for row in measured if row.machine}
    elsewhere = [row for row in measured if row.machine and row.machine != local_machines.get(row.hw)]
    if len(machines) > 1:
        notes.append(f"records of {len(machines)} machines: absolute times of different machines are ranked together")
    elif elsewhere:
        notes.append("the records are of another machine: measure here before you rely on them")
    if not all(row.machine for row in measured):
        notes.append("the machine is not recorded: measure here before you rely on the records")
    launches = [count for row in measured if (count := row["speedup_launches"])]
    if launches and min(launches) < _FEW_LAUNCHES:
        notes.append(f"few launches: {min(launches):.0f}; comparison.launches=10 narrows the speedups")
    runs = {row.run_id for row in measured if row["speedup_launches"]}
    if len(runs) > 1:
        notes.append(f"speedups are of {len(runs)} runs, each against its own reference")
    return [f"note: {note}" for note in notes]


def _one(row: Row) -> float | None:
    return 1.0 if row.is_reference else None


def _batch_speed(row: Row) -> float | None:
    ratio = row.get("throughput_speedup_ratio")
    return ratio or (_one(row) if row.get("batched_tokens_per_s") else None)


def _nothing(recommendation: Recommendation, constraints: Constraints) -> list[str]:
    lines = ["no measured cell qualifies"]
    if recommendation.relaxed is not None:
        relaxed, row = recommendation.relaxed
        names = [
            field.name
            for field in dataclasses.fields(constraints)
            if getattr(constraints, field.name) != getattr(relaxed, field.name)
        ]
        changes = " ".join(f"--{name.replace('_', '-')} {loose(name, getattr(relaxed, name))}" for name in names)
        lines += [f"the smallest relaxation: {changes}, which {row.runtime} meets", f"  {describe(row, constraints)}"]
    return [*lines, *(f"not {row.runtime}: {why}" for row, why in recommendation.unranked)]


def loose(name: str, value: float) -> str:
    """Return a value rounded so that the cell still qualifies."""
    text = f"{value:.4g}"
    if (float(text) > value) == (name == "min_accuracy"):
        step = 10.0 ** (len(text.split(".")[-1]) * -1 if "." in text else 0)
        text = f"{float(text) + (-step if name == 'min_accuracy' else step):.6g}"
    return text
