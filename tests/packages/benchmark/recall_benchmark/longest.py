"""A gate axis: the slowest of a cell's own time percentiles, in seconds per token."""

from __future__ import annotations

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.findings import LimitResult, Measured, row_of
from runtime_matrix.experiments.gates.limits import GateConfig


class LongestLimits(Limits[float | None]):
    @override
    def judge(self, measured: Measured, limits: float | None, gate: GateConfig, level: float) -> list[LimitResult]:
        seconds = row_of(measured.result)["tpot_s_p95"]
        if limits is None or seconds is None:
            return []
        said = f"95 % of tokens within {1000 * seconds:.2f} ms, at most {1000 * limits:.2f} ms"
        return [
            LimitResult(measured.label, self.name, "pass" if seconds <= limits else "fail", said, "s", "lower", seconds)
        ]


AXIS = Axis(
    limits=(LongestLimits(part="reference", key="longest", kind=float | None, default=None, rule=Rule(least=0)),)
)
