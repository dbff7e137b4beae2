"""The best measured cell for a goal under constraints, what is tied with it, and what would have to give way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime_matrix.experiments.advice.kept import is_shown, kept, kept_scores, unshown, weakest
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.costs import price_of_tokens
from runtime_matrix.experiments.analysis.ranking import Bounds, bounds
from runtime_matrix.experiments.records.row import Row

GOALS = ("latency", "throughput", "memory", "cost")
GIB = 2**30
NO_PRICE = "no price an hour is known: --usd-per-hour"


@dataclass(frozen=True)
class Constraints:
    """What is wanted. `min_accuracy` is a share of the reference's score; None: no constraint."""

    goal: str
    min_accuracy: float | None = None
    max_memory_gib: float | None = None
    max_ttft_s: float | None = None
    usd_per_hour: float | None = None  # where the profile has none
    accept_unshown: bool = False  # go by the estimate of what is kept, not by its lower bound


@dataclass(frozen=True)
class Violation:
    """A constraint that a cell misses. `found` is what the limit would have to be; None where it was not measured."""

    option: str
    limit: float
    found: float | None
    said: str | None = None  # in words, where the number alone would mislead
    is_unshown: bool = False  # the estimate reaches the limit, its bound does not

    @property
    def share(self) -> float:
        """Return by which share of itself the limit would have to give way."""
        if self.found is None or self.limit == 0:
            return float("inf")
        return abs(self.found - self.limit) / self.limit


@dataclass(frozen=True)
class Recommendation:
    """`best` is None where nothing qualifies; then `relaxed` is the smallest change of the wish that lets one in."""

    ranked: list[Row]  # that qualify, the best first
    tied: list[Row]  # of them, not told apart from the best
    unranked: list[tuple[Row, str]]  # measured, with why they do not qualify
    alarms: list[Row]  # whose timed work was not what was asked for: never chosen
    relaxed: tuple[Constraints, Row] | None
    basis: str  # what "best" was judged by
    not_ranked: str | None = None  # why no cell can be called the best
    has_price: bool = True  # False: costs were asked for, and no price is known

    @property
    def best(self) -> Row | None:
        return self.ranked[0] if self.ranked else None


@dataclass(frozen=True)
class _Measure:
    """What cells are ranked by: a value with its interval."""

    bounds: Callable[[Row], Bounds | None]
    is_high_better: bool
    basis: str

    def key(self, row: Row) -> float:
        found = self.bounds(row)
        assert found is not None
        return -found[1] if self.is_high_better else found[1]

    def is_tied(self, best: Row, row: Row) -> bool:
        first, second = self.bounds(best), self.bounds(row)
        return first is not None and second is not None and first[0] <= second[2] and second[0] <= first[2]


def choose(found: Sequence[Row], wish: Constraints) -> Recommendation:
    """Rank the cells that qualify."""
    measured = [row for row in found if row.status == "ok"]
    alarms = [row for row in found if is_alarm(row)]
    measure, why_not = _measure(measured, wish)
    has_price = wish.goal != "cost" or _has_price(measured, wish)
    if measure is None:
        return Recommendation([], [], [], alarms, None, wish.goal, why_not, has_price)
    qualified, unranked = [], []
    for row in measured:
        missing = lacks(row, wish)
        if missing:
            unranked.append((row, "; ".join(_said(one) for one in missing)))
        elif measure.bounds(row) is None:
            unranked.append((row, f"no {measure.basis}"))
        else:
            qualified.append(row)
    ranked = sorted(qualified, key=measure.key)
    tied = [row for row in ranked[1:] if measure.is_tied(ranked[0], row)]
    rankable = [row for row in measured if measure.bounds(row) is not None]
    relaxed = None if ranked else _relax(rankable, wish)
    return Recommendation(ranked, tied, unranked, alarms, relaxed, measure.basis, has_price=has_price)


def lacks(row: Row, wish: Constraints) -> list[Violation]:
    """Return the constraints that a cell misses, or for which it has no measurement."""
    ceilings = (
        ("--max-memory-gib", wish.max_memory_gib, memory_gib(row)),
        ("--max-ttft-s", wish.max_ttft_s, row["ttft_s_p50"]),
    )
    accuracy = None if wish.min_accuracy is None else _accuracy(row, wish.min_accuracy, wish.accept_unshown)
    return [
        *([accuracy] if accuracy else []),
        *(
            Violation(option, limit, value)
            for option, limit, value in ceilings
            if limit is not None and (value is None or value > limit)
        ),
    ]


def _accuracy(row: Row, floor: float, by_estimate: bool) -> Violation | None:
    """Return how the cell misses the floor: its bound is below, or with `by_estimate` the estimate itself."""
    option, estimate, worst = "--min-accuracy", kept(row), weakest(row)
    if estimate is None or worst is None:
        return Violation(option, floor, None)
    if estimate >= floor if by_estimate else is_shown(row, floor):
        return None
    why = unshown(row, floor)
    if why is not None:
        return Violation(option, floor, worst.low, f"not shown: {why}", is_unshown=True)
    lowest = min(kept_scores(row), key=lambda one: one.share)
    reaches = lowest.high is not None and lowest.high >= floor
    said = lowest.said + ("; the interval reaches it, more items would tell" if reaches else "")
    return Violation(option, floor, estimate if by_estimate else worst.low, said)


def memory_gib(row: Row) -> float | None:
    """Return the peak on the device, where there is one, else on the host; imports are in neither."""
    peak = row["peak_device_bytes"] or row["peak_host_bytes"]
    return None if peak is None else peak / GIB


def price(row: Row, wish: Constraints) -> Bounds | None:
    """Return dollars a million new tokens of interleaved batches, with the interval; None where it has none."""
    ends = ("_low", "", "_high")
    if wish.usd_per_hour is None:
        found = [row.get(f"usd_per_million_tokens{end}") for end in ends]
    else:
        found = [price_of_tokens(wish.usd_per_hour, row.get(f"batched_tokens_per_s{end}")) for end in reversed(ends)]
    low, value, high = found
    return None if low is None or value is None or high is None else (low, value, high)


def _measure(measured: Sequence[Row], wish: Constraints) -> tuple[_Measure | None, str | None]:
    """Return what to rank by, or None and the reason why nothing can be ranked."""
    if wish.goal == "memory":
        return _Measure(_memory_bounds, False, "peak memory apart from imports"), None
    if len(measured) == 1:
        return _Measure(lambda row: (1.0, 1.0, 1.0), True, "choice: the only measured cell"), None
    if wish.goal == "latency":
        if any(row["speedup_ratio"] is not None for row in measured):
            return _Measure(lambda row: bounds(row, "speedup_ratio"), True, "interleaved decode speedup"), None
        return _Measure(_lone_tpot, False, "TPOT p50 of cells that ran one after the other"), None
    if wish.goal == "cost" and any(price(row, wish) is not None for row in measured):
        return _Measure(lambda row: price(row, wish), False, "price of a million tokens of interleaved batches"), None
    without_price = f" ({NO_PRICE})" if wish.goal == "cost" and not _has_price(measured, wish) else ""
    if any(row.get("throughput_speedup_ratio") is not None for row in measured):
        basis = f"interleaved batch speedup{without_price}"
        return _Measure(lambda row: bounds(row, "throughput_speedup_ratio"), True, basis), None
    return None, f"no batches were measured in turns with the reference (comparison.batched=8){without_price}"


def _has_price(measured: Sequence[Row], wish: Constraints) -> bool:
    return wish.usd_per_hour is not None or any(row.get("price_usd_per_hour") is not None for row in measured)


def _memory_bounds(row: Row) -> Bounds | None:
    return bounds(row, "peak_device_bytes" if row["peak_device_bytes"] else "peak_host_bytes")


def _lone_tpot(row: Row) -> Bounds | None:
    """Nothing separates two times that were not measured together: all of them are tied."""
    value = row["tpot_s_p50"]
    return None if value is None else (0.0, value, float("inf"))


def _relax(measured: Sequence[Row], wish: Constraints) -> tuple[Constraints, Row] | None:
    """Return the wish with its smallest change that a cell meets: the fewest constraints, then the least of each."""
    options = []
    for row in measured:
        missing = lacks(row, wish)
        if all(one.found is not None and one.found > 0 for one in missing):
            options.append((len(missing), max((one.share for one in missing), default=0.0), row, missing))
    if not options:
        return None
    _, _, row, missing = min(options, key=lambda option: option[:2])
    changes = {one.option[2:].replace("-", "_"): one.found for one in missing}
    return replace(wish, **changes), row  # type: ignore[arg-type]


def _said(lack: Violation) -> str:
    if lack.said is not None:
        return f"{lack.option} {lack.limit:g}: {lack.said}"
    return f"{lack.option} {lack.limit:g}: {'not measured' if lack.found is None else f'{lack.found:.4g}'}"
