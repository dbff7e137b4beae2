"""The common parts of the speed axes: limits on time ratios by one clock, and the launches in a baseline."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct
from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gates.axis import Kept, Limits
from runtime_matrix.experiments.gates.baseline import Baseline, shortened
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.speed_limits import SpeedLimit, apart, judge_speed
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.ratios import PHASES, Clock, log_ratios
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.statistics.sequential import Rule

C = TypeVar("C", bound=Collection[str])


class BaselineSpeed(Struct, frozen=True, kw_only=True):
    """The launches of a cell against its reference."""

    against: str | None = None  # the runtime of the reference
    options: JsonObject | None = None  # of `ComparisonConfig` in that run
    log_ratios: dict[str, dict[str, list[float]]] = {}  # by clock and phase: one per launch


class KeptSpeed(Kept[BaselineSpeed]):
    """The part of a baseline with its launches."""

    @override
    def make(self, result: Result, against: str | None) -> BaselineSpeed:
        speed = result.speed
        launches = speed.launches if speed else []
        return BaselineSpeed(
            against=against,
            options=speed.options if speed else None,
            log_ratios={
                clock.value: {phase: shortened(log_ratios(launches, phase, clock)) for phase in PHASES}
                for clock in (Clock.WALL, Clock.CPU)
            },
        )


KEPT_SPEED = KeptSpeed(key="speed", kind=BaselineSpeed, absent=None, place=50)


@dataclass(frozen=True, eq=False, kw_only=True)
class _SpeedLimits(Limits[C], ABC):
    """Limits by phase."""

    clock: Clock

    @override
    def launch_limits(self, limits: C, gate: GateConfig, baseline: Baseline | None, level: float) -> list[SpeedLimit]:
        rule = Rule(math.log1p(gate.indifferent), math.log1p(gate.must_find), gate.interim_launches, level)
        return [self._limit(limits, phase, rule, baseline) for phase in limits]

    @abstractmethod
    def _limit(self, limits: C, phase: str, rule: Rule, baseline: Baseline | None) -> SpeedLimit:
        """Return the limit of one phase."""

    @override
    def judge(self, measured: Measured, limits: C, gate: GateConfig, level: float) -> list[LimitResult]:
        return judge_speed(measured, self.launch_limits(limits, gate, measured.baseline, level), gate)

    @override
    def bounds(self, limits: C) -> int:
        return len(limits)

    @override
    def needs_launches(self, limits: C) -> bool:
        return len(limits) > 0

    @override
    def phases(self, limits: C) -> Collection[str]:
        return limits


class ReferenceSpeedLimits(_SpeedLimits[dict[str, float]]):
    """The least speedup over the reference, by phase."""

    @override
    def _limit(self, limits: dict[str, float], phase: str, rule: Rule, baseline: Baseline | None) -> SpeedLimit:
        expected = math.log(limits[phase])
        return SpeedLimit(f"{self.name}.{phase}", phase, self.clock, expected, rule, mean_interval, self.part)


class BaselineSpeedLimits(_SpeedLimits[tuple[str, ...]]):
    """Phases whose speedup over the reference must not fall below the baseline's."""

    @override
    def _limit(self, limits: tuple[str, ...], phase: str, rule: Rule, baseline: Baseline | None) -> SpeedLimit:
        assert baseline is not None
        earlier = KEPT_SPEED.of(baseline).log_ratios[self.clock.value][phase]
        expected = -sum(earlier) / len(earlier) if earlier else math.nan
        interval = apart(earlier, expected)
        return SpeedLimit(f"{self.name}.{phase}", phase, self.clock, expected, rule, interval, self.part)
