"""Exact counts of the runtime: they must not exceed the baseline's, and the tokens must be equal."""

from __future__ import annotations

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits
from runtime_matrix.experiments.gates.baseline import figure_changes
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.sequential import Verdict

_TOKENS = "tokens"
_NAMES = ("graph_breaks", "recompiles", "fallback_nodes", _TOKENS)
Counts = dict[str, int | None]


class KeptCounts(Kept[Counts]):
    """The part of a baseline with counts by name."""

    @override
    def make(self, result: Result, against: str | None) -> Counts:
        return counts(result.record)

    @override
    def changes(self, before: Counts, now: Counts) -> list[str]:
        return figure_changes(before, now)


class CountLimits(Limits[tuple[str, ...]]):
    """The names of the counts that are judged."""

    @override
    def judge(self, measured: Measured, limits: tuple[str, ...], gate: GateConfig, level: float) -> list[LimitResult]:
        own_counts, baseline_counts, results = counts(measured.result.record), measured.kept(_KEPT), []
        for name in limits:
            value, other = own_counts[name], baseline_counts.get(name)
            if value is None and other is None:
                continue
            full = f"{self.name}.{name}"
            if value is None or other is None:
                text = f"{name} {value}, the baseline {other}: not counted"
                results.append(LimitResult(measured.label, full, "inconclusive", text))
                continue
            is_worse = value != other if name == _TOKENS else value > other
            verdict: Verdict = "fail" if is_worse else "pass"
            text = f"{name} {value:,}, the baseline {other:,}" + (": an exact count that changed" if is_worse else "")
            advice = "find the cause, or if it is intended: update=true" if is_worse else ""
            results.append(
                LimitResult(
                    measured.label, full, verdict, text, "count", "lower", value, limit=other, n=1, advice=advice
                )
            )
        return results


def counts(record: Record) -> Counts:
    """Return the exact counts of a cell by name; None for a count that its runtime does not keep."""
    last = record.benchmarks[-1].counters if record.benchmarks else {}
    tokens = [count for entry in record.benchmarks if (count := entry.figure("new_tokens")) is not None]
    return {**{name: last.get(name) for name in _NAMES}, _TOKENS: int(sum(tokens)) if tokens else None}


_KEPT = KeptCounts(key="counts", kind=Counts, absent=dict, place=40)
BASELINE = CountLimits(
    part="baseline",
    key="counts",
    kind=tuple[str, ...],
    default=(),
    rule=Rule(among=_NAMES, may_be_empty=True),
    place=80,
)
AXIS = Axis(limits=(BASELINE,), kept=(_KEPT,), place=70)
