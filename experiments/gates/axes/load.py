"""Load time and first call in seconds, which may exceed the baseline's by a share."""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import override

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.figures_limits import KeptFigures, judge_shares
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig

_FIRST_CALL = "first_call_s"
_NAMES = ("load_s", _FIRST_CALL)
_KEPT = KeptFigures(key="load", names=_NAMES, place=30)


class LoadLimits(Limits[dict[str, float]]):
    """The allowed growth by figure."""

    @override
    def judge(self, measured: Measured, limits: dict[str, float], gate: GateConfig, level: float) -> list[LimitResult]:
        others = measured.kept(_KEPT)
        return judge_shares(measured, self, limits, others, "s")

    @override
    def benchmarks(self, limits: dict[str, float]) -> Collection[str]:
        return ["latency"] if _FIRST_CALL in limits else []


BASELINE = LoadLimits(
    part="baseline", key="load", kind=dict[str, float], default={}, rule=Rule(least=0, keys=_NAMES), place=60
)
AXIS = Axis(limits=(BASELINE,), kept=(_KEPT,), place=50)
