"""The best measured cell for a goal under constraints, what is tied with it, and what would have to give way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from experiments.views.columns import Row
from experiments.views.standing import bounds

GOALS = ("latency", "throughput", "memory", "cost")
GIB = 2**30
_KEPT = ("mcq_accuracy", "code_pass_at_1", "qa_f1", "rouge_l")


@dataclass(frozen=True)
class Wish:
    """What is wanted. `min_accuracy` is a share of the reference's score; None: no constraint."""

    goal: str
    min_accuracy: float | None = None
    max_memory_gib: float | None = None
    max_ttft_s: float | None = None
    usd_per_hour: float | None = None  # where the profile has none


@dataclass(frozen=True)
class Lack:
    """A constraint that a cell misses. `found` is None where it was not measured."""

    option: str
    limit: float
    found: float | None
    is_within_noise: bool = False  # the value's interval reaches the limit

    @property
    def share(self) -> float:
        """Return by which share of itself the limit would have to give way."""
        if self.found is None or self.limit == 0:
            return float("inf")
        return abs(self.found - self.limit) / self.limit


@dataclass(frozen=True)
class Choice:
    """`best` is None where nothing qualifies; then `relaxed` is the smallest change of the wish that lets one in."""

    ranked: list[Row]  # that qualify, the best first
    tied: list[Row]  # of them, not told apart from the best
    unranked: list[tuple[Row, str]]  # measured, with why they do not qualify
    relaxed: tuple[Wish, Row] | None
    basis: str  # what "best" was judged by

    @property
    def best(self) -> Row | None:
        return self.ranked[0] if self.ranked else None


def choose(found: Sequence[Row], wish: Wish) -> Choice:
    """Rank the cells that qualify."""
    measured = [row for row in found if row["status"] == "ok"]
    value, key, basis = _judge(measured, wish)
    qualified, unranked = [], []
    for row in measured:
        missing = lacks(row, wish)
        if missing:
            unranked.append((row, "; ".join(_said(one) for one in missing)))
        elif value(row) is None:
            unranked.append((row, f"no {basis}"))
        else:
            qualified.append(row)
    ranked = sorted(qualified, key=lambda row: value(row) or 0.0)
    tied = [row for row in ranked[1:] if key and _is_tied(ranked[0], row, key)]
    rankable = [row for row in measured if value(row) is not None]
    return Choice(ranked, tied, unranked, None if ranked else _relax(rankable, wish), basis)


def lacks(row: Row, wish: Wish) -> list[Lack]:
    """Return the constraints that a cell misses, or for which it has no measurement."""
    wanted = (
        ("--min-accuracy", wish.min_accuracy, kept(row), False),
        ("--max-memory-gib", wish.max_memory_gib, memory_gib(row), True),
        ("--max-ttft-s", wish.max_ttft_s, row["ttft_s_p50"], True),
    )
    return [
        Lack(option, limit, value, option == "--min-accuracy" and _may_keep(row, limit))
        for option, limit, value, is_ceiling in wanted
        if limit is not None and (value is None or (value > limit if is_ceiling else value < limit))
    ]


def _may_keep(row: Row, share: float) -> bool:
    """Say whether every score's interval, on the reference's own items, still reaches this share of the reference's."""
    for score in _KEPT:
        percent, found = row.get(f"{score}_percent_of_reference"), bounds(row, score)
        if percent and found is not None and found[2] < share * found[1] / (percent / 100):
            return False
    ratio, low = row.get("perplexity_percent_of_reference"), row.get("perplexity_ratio_low")
    return not ratio or 100 / ratio >= share or (low is not None and 1 / low >= share)


def kept(row: Row) -> float | None:
    """Return the share of the reference's score that is kept, of the benchmark that lost most; None where unknown."""
    shares = [row.get(f"{score}_percent_of_reference") for score in _KEPT]
    known = [share / 100 for share in shares if share is not None]
    ratio = row.get("perplexity_percent_of_reference")
    return min([*known, *([100 / ratio] if ratio else [])], default=1.0 if row["is_reference"] else None)


def memory_gib(row: Row) -> float | None:
    """Return the peak on the device, where there is one, else on the host."""
    peak = row["peak_device_bytes"] or row["peak_host_bytes"]
    return None if peak is None else peak / GIB


def price(row: Row, wish: Wish) -> float | None:
    """Return dollars a million new tokens, offline."""
    if row.get("usd_per_million_tokens") is not None and wish.usd_per_hour is None:
        return float(row["usd_per_million_tokens"])
    if wish.usd_per_hour is None or not row["throughput_tokens_per_s"]:
        return None
    return wish.usd_per_hour / 3600 * 1e6 / float(row["throughput_tokens_per_s"])


def _judge(measured: Sequence[Row], wish: Wish) -> tuple[Callable[[Row], float | None], str | None, str]:
    """Return what to rank by (less is better), the key whose intervals say ties, and the words for it."""
    if wish.goal == "memory":
        return memory_gib, "peak_host_bytes", "peak memory"
    if wish.goal == "latency":
        if any(row["speedup_ratio"] is not None for row in measured):
            return _negative_speedup, "speedup_ratio", "interleaved decode speedup"
        return lambda row: row["tpot_s_p50"], None, "TPOT p50 of cells that were not interleaved"
    if wish.goal == "cost" and any(price(row, wish) is not None for row in measured):
        return lambda row: price(row, wish), None, "price of a million tokens offline"
    without_price = " (no price an hour is known: --usd-per-hour)" if wish.goal == "cost" else ""
    return _negative_throughput, None, f"offline throughput{without_price}"


def _negative_speedup(row: Row) -> float | None:
    found = bounds(row, "speedup_ratio")
    return None if found is None else -found[1]


def _negative_throughput(row: Row) -> float | None:
    found = row["throughput_tokens_per_s"]
    return None if found is None else -float(found)


def _is_tied(best: Row, row: Row, key: str) -> bool:
    first, second = bounds(best, key), bounds(row, key)
    return first is not None and second is not None and first[0] <= second[2] and second[0] <= first[2]


def _relax(measured: Sequence[Row], wish: Wish) -> tuple[Wish, Row] | None:
    """Return the wish with its smallest change that a cell meets: the fewest constraints, then the least of each."""
    options = []
    for row in measured:
        missing = lacks(row, wish)
        if all(one.found is not None for one in missing):
            options.append((len(missing), max((one.share for one in missing), default=0.0), row, missing))
    if not options:
        return None
    _, _, row, missing = min(options, key=lambda option: option[:2])
    changes = {one.option[2:].replace("-", "_"): one.found for one in missing}
    return replace(wish, **changes), row  # type: ignore[arg-type]


def _said(lack: Lack) -> str:
    measured = "not measured" if lack.found is None else f"{lack.found:.4g}"
    noise = ", its interval reaches it: more items would tell" if lack.is_within_noise and lack.found else ""
    return f"{lack.option} {lack.limit:g}: {measured}{noise}"
