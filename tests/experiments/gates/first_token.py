"""An axis as somebody may add it: the time to the first token may exceed the reference's by a share."""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Kept, Limits
from runtime_matrix.experiments.gates.findings import LimitResult, Measured, row_of
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.statistics.sequential import Verdict

_FIGURE = "ttft_s_p50"


class KeptFirstToken(Kept[float | None]):
    @override
    def make(self, result: Result, against: str | None) -> float | None:
        return row_of(result)[_FIGURE]

    @override
    def changes(self, before: float | None, now: float | None) -> list[str]:
        return [] if before == now else [f"first token {before} → {now}"]


class FirstTokenLimits(Limits[float | None]):
    @override
    def judge(self, measured: Measured, limits: float | None, gate: GateConfig, level: float) -> list[LimitResult]:
        mine, theirs = row_of(measured.result)[_FIGURE], row_of(measured.reference)[_FIGURE]
        if limits is None or mine is None or theirs is None:
            return []
        verdict: Verdict = "pass" if mine <= theirs * (1 + limits) else "fail"
        said = f"first token after {1000 * mine:.1f} ms against {1000 * theirs:.1f} ms of {measured.against}"
        return [LimitResult(measured.label, self.name, verdict, said, "s", "lower", mine, limit=theirs * (1 + limits))]

    @override
    def benchmarks(self, limits: float | None) -> Collection[str]:
        return [] if limits is None else ["throughput"]


REFERENCE = FirstTokenLimits(part="reference", key="first_token", kind=float | None, default=None, rule=Rule(least=0))
AXIS = Axis(limits=(REFERENCE,), kept=(KeptFirstToken(key="first_token", kind=float | None, absent=lambda: None),))
