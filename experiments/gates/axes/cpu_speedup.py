"""Speedup in CPU time of one thread: like `speedup`, with less noise."""

from __future__ import annotations

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis
from runtime_matrix.experiments.gates.speed_axis import KEPT_SPEED, BaselineSpeedLimits, ReferenceSpeedLimits
from runtime_matrix.experiments.records.ratios import Clock

CPU_PHASES = ("decode", "prefill")
REFERENCE = ReferenceSpeedLimits(
    part="reference",
    key="cpu_speedup",
    clock=Clock.CPU,
    kind=dict[str, float],
    default={},
    rule=Rule(least=0.001, keys=CPU_PHASES),
    place=21,
)
BASELINE = BaselineSpeedLimits(
    part="baseline",
    key="cpu_speedup",
    clock=Clock.CPU,
    kind=tuple[str, ...],
    default=(),
    rule=Rule(among=CPU_PHASES, may_be_empty=True),
    place=23,
)
AXIS = Axis(limits=(REFERENCE, BASELINE), kept=(KEPT_SPEED,), place=20)
