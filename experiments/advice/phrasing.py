"""Advice in words: the choice, what each alternative costs and gains, and what the figures cannot carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from runtime_matrix.experiments.advice.choose import GIB, Constraints, Recommendation, memory_gib, price
from runtime_matrix.experiments.advice.kept import kept, kept_scores, unshown
from runtime_matrix.experiments.records.row import Row

_ALTERNATIVES = 3
_FEW_CELLS = 3
_FEW_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess


def advice_lines(chosen: Recommendation, wish: Constraints) -> list[str]:
    """Return the answer, a line a cell."""
    said = [*(not_compared(row) for row in chosen.alarms), *_nothing_shown(chosen, wish)]
    if chosen.not_ranked is not None:
        return [f"not ranked: {chosen.not_ranked}", *said]
    if chosen.best is None:
        return [*_nothing(chosen, wish), *said]
    best = chosen.best
    of = f"of {len(chosen.ranked)} cells that qualify" if len(chosen.ranked) > 1 else "; no other cell qualifies"
    lines = [f"run {best.runtime}: best {chosen.basis} {of}".replace(" ;", ";")]
    lines.append(f"  {describe(best, wish)}")
    if best.command:
        lines.append(f"  {best.command}")
    for row in chosen.ranked[1 : 1 + _ALTERNATIVES]:
        tie = " (not told apart from it)" if row in chosen.tied else ""
        lines.append(f"or {row.runtime}{tie}: {exchange(best, row, wish)}")
    return [*lines, *(f"not {row.runtime}: {why}" for row, why in chosen.unranked), *said]


def not_compared(row: Row) -> str:
    """Return why a cell is not chosen from, whatever its figures: its timed work was not what was asked for."""
    return f"not compared: {row.runtime}: {row.status}: {row.reason}"


def _nothing_shown(chosen: Recommendation, wish: Constraints) -> list[str]:
    """Say that nothing but the reference is shown to keep its scores, and how many items it would take."""
    floor = wish.min_accuracy
    if floor is None or wish.accept_unshown or any(not row.is_reference for row in chosen.ranked):
        return []
    rows = [row for row, _ in chosen.unranked if unshown(row, floor)]
    if not rows:
        return []
    needed = [
        (max(counts), row.runtime)
        for row in rows
        if (counts := [n for one in kept_scores(row) if (n := one.items_to_show(floor)) is not None])
    ]
    said = f"note: no cell but the reference is shown to keep {100 * floor:g} % of its scores"
    if needed:
        items, name = min(needed)
        said += f"; about {items:,} items in each benchmark would show it for {name}"
    return [f"{said}; --accept-unshown goes by the estimates"]


def describe(row: Row, wish: Constraints) -> str:
    """Return the figures that a choice is made by."""
    ttft, tpot, memory, share = row["ttft_s_p50"], row["tpot_s_p50"], memory_gib(row), kept(row)
    alone = " alone" if row.latency_source == "alone" else ""
    batched, offline = row.get("batched_tokens_per_s"), row["throughput_tokens_per_s"]
    lone_price, dollars = row.get("usd_per_million_tokens"), price(row, wish)
    parts = [
        _ratio("decode", row, "speedup_ratio"),
        f"TTFT {ttft * 1e3:.1f} ms{alone}" if ttft else "",
        f"TPOT {tpot * 1e3:.2f} ms{alone}" if tpot else "",
        f"{batched:,.0f} tokens/s batched" if batched else f"{offline:,.0f} tokens/s offline, alone" if offline else "",
        _ratio("batches", row, "throughput_speedup_ratio"),
        f"${dollars[1]:.4f} [{dollars[0]:.4f}, {dollars[2]:.4f}] a million tokens" if dollars else "",
        f"${lone_price:.4f} a million tokens, alone" if lone_price and not dollars else "",
        f"peak {size(memory * GIB)}" if memory else "",
        f"keeps {100 * share:.1f} % of the reference's scores" if share is not None else "answers not measured",
    ]
    return ", ".join(part for part in parts if part)


def _ratio(name: str, row: Row, key: str) -> str:
    found = row.interval(key)
    return f"{name} {found[0]:.2f}× [{found[1]:.2f}, {found[2]:.2f}]" if found else ""


def size(count: float) -> str:
    """Return bytes in the unit that people say them in."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / 2**20:,.0f} MiB"


def exchange(best: Row, row: Row, wish: Constraints) -> str:
    """Return what taking `row` for `best` costs and gains."""
    before, after = price(best, wish), price(row, wish)
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
    return ", but ".join(", ".join(said) for said in (costs, gains) if said) or "no difference in what was measured"


def _change(name: str, ratio: float) -> str:
    """Return a change in words: `half the decode speed`, `13 % less memory`."""
    if ratio >= 2:
        return f"{ratio:.2g} times the {name}"
    if 0.45 <= ratio <= 0.55:
        return f"half the {name}"
    more, less = {"memory": ("more", "less")}.get(name, ("higher", "lower"))
    share = 100 * abs(ratio - 1)
    return f"{share:{'.0f' if share >= 10 else '.1f'}}\N{NO-BREAK SPACE}% {more if ratio > 1 else less} {name}"


def caveats(found: Sequence[Row], here: Mapping[str, str], wish: Constraints) -> list[str]:
    """Return what must be said beside the advice. `here` is this machine's digest, a hardware profile each."""
    measured = [row for row in found if row.status == "ok"]
    said = []
    if wish.min_accuracy is not None and wish.accept_unshown:
        said += [
            f"accepted unshown: {row.runtime} {why}" for row in measured if (why := unshown(row, wish.min_accuracy))
        ]
    if len(measured) > 1 and not any(row["speedup_ratio"] is not None for row in measured):
        said.append("no speedup by wall time is known: times of cells that ran one after the other tell nothing apart")
    if len(measured) < _FEW_CELLS:
        said.append(f"few records: {len(measured)} measured cells; a sweep has more to choose from")
    machines = {row.machine for row in measured if row.machine}
    elsewhere = [row for row in measured if row.machine and row.machine != here.get(row.hw)]
    if len(machines) > 1:
        said.append(f"of {len(machines)} machines: absolute times of different machines are ranked together")
    elif elsewhere:
        said.append("of another machine than this one: measure here before you rely on it")
    if not all(row.machine for row in measured):
        said.append("the machine is not recorded: measure here before you rely on it")
    launches = [count for row in measured if (count := row["speedup_launches"])]
    if launches and min(launches) < _FEW_LAUNCHES:
        said.append(f"few launches: {min(launches):.0f}; comparison.launches=10 narrows the speedups")
    runs = {row.run_id for row in measured if row["speedup_launches"]}
    if len(runs) > 1:
        said.append(f"speedups are of {len(runs)} runs, each against its own reference")
    return [f"note: {one}" for one in said]


def _one(row: Row) -> float | None:
    return 1.0 if row.is_reference else None


def _batch_speed(row: Row) -> float | None:
    found = row.get("throughput_speedup_ratio")
    return found or (_one(row) if row.get("batched_tokens_per_s") else None)


def _nothing(chosen: Recommendation, wish: Constraints) -> list[str]:
    lines = ["no measured cell qualifies"]
    if chosen.relaxed is not None:
        relaxed, row = chosen.relaxed
        names = [
            part.name for part in dataclasses.fields(wish) if getattr(wish, part.name) != getattr(relaxed, part.name)
        ]
        changes = " ".join(f"--{name.replace('_', '-')} {_loose(name, getattr(relaxed, name))}" for name in names)
        lines += [f"the smallest relaxation: {changes}, which {row.runtime} meets", f"  {describe(row, wish)}"]
    return [*lines, *(f"not {row.runtime}: {why}" for row, why in chosen.unranked)]


def _loose(name: str, value: float) -> str:
    """Round so that the value itself still qualifies."""
    text = f"{value:.4g}"
    if (float(text) > value) == (name == "min_accuracy"):
        step = 10.0 ** (len(text.split(".")[-1]) * -1 if "." in text else 0)
        text = f"{float(text) + (-step if name == 'min_accuracy' else step):.6g}"
    return text
