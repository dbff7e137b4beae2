"""The best measured cell for a goal under constraints, cells tied with it, and the smallest relaxation if none fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime_matrix.experiments.advice.kept import is_shown, kept, kept_scores, unshown, weakest
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.costs import price_of_tokens
from runtime_matrix.experiments.analysis.ranking import PEAK, Bounds, bounds, memory_key
from runtime_matrix.experiments.records.row import Row

GOALS = ("latency", "throughput", "memory", "cost")
GIB = 2**30
NO_PRICE = "no hourly price is known: give --usd-per-hour"


@dataclass(frozen=True)
class Constraints:
    """A goal and its constraints; None: no constraint. `min_accuracy` is a share of the reference's score."""

    goal: str
    min_accuracy: float | None = None
    max_memory_gib: float | None = None
    max_ttft_s: float | None = None
    usd_per_hour: float | None = None  # overrides the price of the hardware profile
    accept_unshown: bool = False  # apply min_accuracy to the estimate, not to the lower bound


@dataclass(frozen=True)
class Violation:
    """A constraint that a cell misses. `value` is the limit that the cell would meet; None if it was not measured."""

    option: str
    limit: float
    value: float | None
    message: str | None = None  # replaces the number where that alone would mislead
    is_unshown: bool = False  # the estimate reaches the limit, its lower bound does not

    @property
    def share(self) -> float:
        """Return the relative change of the limit that the cell needs; infinite if it was not measured."""
        if self.value is None or self.limit == 0:
            return float("inf")
        return abs(self.value - self.limit) / self.limit


@dataclass(frozen=True)
class Recommendation:
    """The ranking for a goal. If no cell qualifies, `relaxed` is the smallest relaxation and the cell that meets it."""

    ranked: list[Row]  # cells that qualify, best first
    tied: list[Row]  # those of `ranked` whose interval overlaps the best one's
    unranked: list[tuple[Row, str]]  # measured cells that do not qualify, and the reason
    alarms: list[Row]  # cells with wrong outputs or invalid timing: never chosen
    relaxed: tuple[Constraints, Row] | None
    basis: str  # the measure of the ranking
    not_ranked: str | None = None  # why there is no ranking
    has_price: bool = True  # False: the goal is cost and no price is known

    @property
    def best(self) -> Row | None:
        """Return the first of `ranked`; None if no cell qualifies."""
        return self.ranked[0] if self.ranked else None


@dataclass(frozen=True)
class _Measure:
    """The measure of a ranking: a value with its interval per cell."""

    bounds: Callable[[Row], Bounds | None]
    is_high_better: bool
    basis: str

    def key(self, row: Row) -> float:
        ends = self.bounds(row)
        assert ends is not None
        return -ends[1] if self.is_high_better else ends[1]

    def is_tied(self, best: Row, row: Row) -> bool:
        first, second = self.bounds(best), self.bounds(row)
        return first is not None and second is not None and first[0] <= second[2] and second[0] <= first[2]


def choose(rows: Sequence[Row], constraints: Constraints) -> Recommendation:
    """Rank the cells that meet the constraints. Cells with wrong outputs or invalid timing are never ranked."""
    measured = [row for row in rows if row.status == "ok"]
    alarms = [row for row in rows if is_alarm(row)]
    measure, why_not = _measure(measured, constraints)
    has_price = constraints.goal != "cost" or _has_price(measured, constraints)
    if measure is None:
        return Recommendation([], [], [], alarms, None, constraints.goal, why_not, has_price)
    qualified, unranked = [], []
    for row in measured:
        violations = lacks(row, constraints)
        if violations:
            unranked.append((row, "; ".join(_violation_text(violation) for violation in violations)))
        elif measure.bounds(row) is None:
            unranked.append((row, f"no {measure.basis}"))
        else:
            qualified.append(row)
    ranked = sorted(qualified, key=measure.key)
    tied = [row for row in ranked[1:] if measure.is_tied(ranked[0], row)]
    rankable = [row for row in measured if measure.bounds(row) is not None]
    relaxed = None if ranked else _relax(rankable, constraints)
    return Recommendation(ranked, tied, unranked, alarms, relaxed, measure.basis, has_price=has_price)


def lacks(row: Row, constraints: Constraints) -> list[Violation]:
    """Return the constraints that a cell misses or for which it has no measurement."""
    ceilings = (
        ("--max-memory-gib", constraints.max_memory_gib, memory_gib(row)),
        ("--max-ttft-s", constraints.max_ttft_s, row["ttft_s_p50"]),
    )
    accuracy = (
        None
        if constraints.min_accuracy is None
        else _accuracy(row, constraints.min_accuracy, constraints.accept_unshown)
    )
    return [
        *([accuracy] if accuracy else []),
        *(
            Violation(option, limit, value)
            for option, limit, value in ceilings
            if limit is not None and (value is None or value > limit)
        ),
    ]


def _accuracy(row: Row, floor: float, by_estimate: bool) -> Violation | None:
    """Return the violation of the floor by the lower bound, or with `by_estimate` by the estimate; None if met."""
    option, estimate, worst = "--min-accuracy", kept(row), weakest(row)
    if estimate is None or worst is None:
        return Violation(option, floor, None)
    if estimate >= floor if by_estimate else is_shown(row, floor):
        return None
    why = unshown(row, floor)
    if why is not None:
        return Violation(option, floor, worst.low, f"not shown: {why}", is_unshown=True)
    lowest = min(kept_scores(row), key=lambda score: score.share)
    reaches = lowest.high is not None and lowest.high >= floor
    message = lowest.text + ("; the interval reaches it, more items would decide" if reaches else "")
    return Violation(option, floor, estimate if by_estimate else worst.low, message)


def memory_gib(row: Row) -> float | None:
    """Return the peak memory on the device if there is one, else on the host; without imports."""
    peak = row[memory_key(row)]
    return None if peak is None else peak / GIB


def price(row: Row, constraints: Constraints) -> Bounds | None:
    """Return dollars per million new tokens of interleaved batches with the interval; None if it is unknown."""
    ends = ("_low", "", "_high")
    if constraints.usd_per_hour is None:
        prices = [row.get(f"usd_per_million_tokens{end}") for end in ends]
    else:
        prices = [
            price_of_tokens(constraints.usd_per_hour, row.get(f"batched_tokens_per_s{end}")) for end in reversed(ends)
        ]
    low, value, high = prices
    return None if low is None or value is None or high is None else (low, value, high)


def _measure(measured: Sequence[Row], constraints: Constraints) -> tuple[_Measure | None, str | None]:
    """Return the measure of the ranking, or None and the reason why there is none."""
    if constraints.goal == "memory":
        return _Measure(lambda row: bounds(row, PEAK), False, "peak memory without imports"), None
    if len(measured) == 1:
        return _Measure(lambda row: (1.0, 1.0, 1.0), True, "choice: the only measured cell"), None
    if constraints.goal == "latency":
        if any(row["speedup_ratio"] is not None for row in measured):
            return _Measure(lambda row: bounds(row, "speedup_ratio"), True, "interleaved decode speedup"), None
        return _Measure(_lone_tpot, False, "TPOT p50 of cells that ran one after the other"), None
    if constraints.goal == "cost" and any(price(row, constraints) is not None for row in measured):
        return _Measure(
            lambda row: price(row, constraints), False, "price per million tokens of interleaved batches"
        ), None
    without_price = f" ({NO_PRICE})" if constraints.goal == "cost" and not _has_price(measured, constraints) else ""
    if any(row.get("throughput_speedup_ratio") is not None for row in measured):
        basis = f"interleaved batch speedup{without_price}"
        return _Measure(lambda row: bounds(row, "throughput_speedup_ratio"), True, basis), None
    return None, f"no batches were measured in turns with the reference (comparison.batched=8){without_price}"


def _has_price(measured: Sequence[Row], constraints: Constraints) -> bool:
    return constraints.usd_per_hour is not None or any(row.get("price_usd_per_hour") is not None for row in measured)


def _lone_tpot(row: Row) -> Bounds | None:
    """Return an unbounded interval: times that were not interleaved are all tied."""
    value = row["tpot_s_p50"]
    return None if value is None else (0.0, value, float("inf"))


def _relax(measured: Sequence[Row], constraints: Constraints) -> tuple[Constraints, Row] | None:
    """Return the constraints with the smallest relaxation, and the cell that meets them.

    Fewer changed constraints come first, then the smaller relative change.
    """
    options = []
    for row in measured:
        violations = lacks(row, constraints)
        if all(violation.value is not None and violation.value > 0 for violation in violations):
            options.append(
                (len(violations), max((violation.share for violation in violations), default=0.0), row, violations)
            )
    if not options:
        return None
    _, _, row, violations = min(options, key=lambda option: option[:2])
    changes = {violation.option[2:].replace("-", "_"): violation.value for violation in violations}
    return replace(constraints, **changes), row  # type: ignore[arg-type]


def _violation_text(violation: Violation) -> str:
    value_text = "not measured" if violation.value is None else f"{violation.value:.4g}"
    return f"{violation.option} {violation.limit:g}: {violation.message or value_text}"
