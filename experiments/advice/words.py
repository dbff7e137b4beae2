"""Advice in words: the choice, what each alternative costs and gains, and what the figures cannot carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.advice.choose import GIB, Choice, Wish, kept, memory_gib, price
from experiments.views.columns import Row

_ALTERNATIVES = 3
_FEW_CELLS = 3
_FEW_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess


def advice_lines(chosen: Choice, wish: Wish) -> list[str]:
    """Return the answer, a line a cell."""
    if chosen.best is None:
        return _nothing(chosen, wish)
    best = chosen.best
    lines = [f"run {best['runtime']}: best {chosen.basis} of {len(chosen.ranked)} cells that qualify"]
    lines.append(f"  {describe(best, wish)}")
    if best.get("command"):
        lines.append(f"  {best['command']}")
    for row in chosen.ranked[1 : 1 + _ALTERNATIVES]:
        tie = " (not told apart from it)" if row in chosen.tied else ""
        lines.append(f"or {row['runtime']}{tie}: {exchange(best, row, wish)}")
    lines += [f"not {row['runtime']}: {why}" for row, why in chosen.unranked]
    return lines


def describe(row: Row, wish: Wish) -> str:
    """Return the figures that a choice is made by."""
    ratio, ttft, tpot, memory = row["speedup_ratio"], row["ttft_s_p50"], row["tpot_s_p50"], memory_gib(row)
    throughput, share, dollars = row["throughput_tokens_per_s"], kept(row), price(row, wish)
    parts = [
        f"decode {ratio:.2f}× [{row['speedup_ratio_low']:.2f}, {row['speedup_ratio_high']:.2f}]" if ratio else "",
        f"TTFT {ttft * 1e3:.1f} ms" if ttft else "",
        f"TPOT {tpot * 1e3:.2f} ms" if tpot else "",
        f"{throughput:,.0f} tokens/s offline" if throughput else "",
        f"${dollars:.4f} a million tokens" if dollars else "",
        f"peak {size(memory * GIB)}" if memory else "",
        f"keeps {100 * share:.1f} % of the reference's scores" if share is not None else "answers not measured",
    ]
    return ", ".join(part for part in parts if part)


def size(count: float) -> str:
    """Return bytes in the unit that people say them in."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / 2**20:,.0f} MiB"


def exchange(best: Row, row: Row, wish: Wish) -> str:
    """Return what taking `row` for `best` costs and gains."""
    pairs = (
        ("decode speed", best["speedup_ratio"] or _one(best), row["speedup_ratio"] or _one(row), "high"),
        ("offline throughput", best["throughput_tokens_per_s"], row["throughput_tokens_per_s"], "high"),
        ("memory", memory_gib(best), memory_gib(row), "low"),
        ("price", price(best, wish), price(row, wish), "low"),
        ("accuracy", kept(best), kept(row), "high"),
    )
    gains: list[str] = []
    costs: list[str] = []
    for name, before, after, better in pairs:
        if not before or after is None or abs(after / before - 1) < 0.001:
            continue
        said = f"{name} {100 * (after / before - 1):+.1f}\N{NO-BREAK SPACE}%".replace("-", "−")
        (gains if (after > before) == (better == "high") else costs).append(said)
    return (
        "; ".join(f"{word} {', '.join(found)}" for word, found in (("costs", costs), ("gains", gains)) if found)
        or "no difference in what was measured"
    )


def caveats(found: Sequence[Row], here: Mapping[str, str]) -> list[str]:
    """Return what must be said beside the advice. `here` is this machine's digest, a hardware profile each."""
    measured = [row for row in found if row["status"] == "ok"]
    said = []
    if len(measured) < _FEW_CELLS:
        said.append(f"few records: {len(measured)} measured cells; a sweep has more to choose from")
    machines = {row.get("machine") for row in measured} - {None}
    elsewhere = [row for row in measured if row.get("machine") not in (None, here.get(row["hw"]))]
    if len(machines) > 1:
        said.append(f"of {len(machines)} machines: absolute times of different machines are ranked together")
    elif elsewhere:
        said.append("of another machine than this one: measure here before you rely on it")
    if any(row.get("machine") is None for row in measured):
        said.append("the machine is not recorded: measure here before you rely on it")
    launches = [row["speedup_launches"] for row in measured if row["speedup_launches"]]
    if launches and min(launches) < _FEW_LAUNCHES:
        said.append(f"few launches: {min(launches)}; comparison.launches=10 narrows the speedups")
    runs = {row["run_id"] for row in measured if row["speedup_launches"]}
    if len(runs) > 1:
        said.append(f"speedups are of {len(runs)} runs, each against its own reference")
    return [f"note: {one}" for one in said]


def _one(row: Row) -> float | None:
    return 1.0 if row["is_reference"] else None


def _nothing(chosen: Choice, wish: Wish) -> list[str]:
    lines = ["no measured cell qualifies"]
    if chosen.relaxed is not None:
        relaxed, row = chosen.relaxed
        names = [
            part.name for part in dataclasses.fields(wish) if getattr(wish, part.name) != getattr(relaxed, part.name)
        ]
        changes = " ".join(f"--{name.replace('_', '-')} {_loose(name, getattr(relaxed, name))}" for name in names)
        lines += [f"the smallest relaxation: {changes}, which {row['runtime']} meets", f"  {describe(row, wish)}"]
    return [*lines, *(f"not {row['runtime']}: {why}" for row, why in chosen.unranked)]


def _loose(name: str, value: float) -> str:
    """Round so that the value itself still qualifies."""
    text = f"{value:.4g}"
    if (float(text) > value) == (name == "min_accuracy"):
        step = 10.0 ** (len(text.split(".")[-1]) * -1 if "." in text else 0)
        text = f"{float(text) + (-step if name == 'min_accuracy' else step):.6g}"
    return text
