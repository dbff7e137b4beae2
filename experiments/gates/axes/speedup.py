"""Speedup in wall time: the least ratio to the reference, and phases that must not lose speed against a baseline."""

from __future__ import annotations

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis
from runtime_matrix.experiments.gates.speed_axis import KEPT_SPEED, BaselineSpeedLimits, ReferenceSpeedLimits
from runtime_matrix.experiments.records.ratios import PHASES, Clock

REFERENCE = ReferenceSpeedLimits(
    part="reference",
    key="speedup",
    clock=Clock.WALL,
    kind=dict[str, float],
    default={},
    rule=Rule(least=0.001, keys=PHASES),
    place=20,
)
BASELINE = BaselineSpeedLimits(
    part="baseline",
    key="speedup",
    clock=Clock.WALL,
    kind=tuple[str, ...],
    default=(),
    rule=Rule(among=PHASES, may_be_empty=True),
    place=22,
)
AXIS = Axis(limits=(REFERENCE, BASELINE), kept=(KEPT_SPEED,), place=10)
