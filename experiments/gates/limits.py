"""The configuration of a gate: its limits, as in `conf/gate/*.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any, ClassVar, Self, TypeVar, cast

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build, least
from runtime_matrix.experiments.gates import registry
from runtime_matrix.experiments.gates.axis import Limits, Part
from runtime_matrix.experiments.tasks.registry import benchmarks, scores

ACCURACY = tuple(scores())  # benchmarks whose answers are scored item by item
T = TypeVar("T")


@dataclass(frozen=True)
class LimitSet:
    """The limits of one part of a gate by key; a missing key has the default of its axis."""

    part: ClassVar[Part]
    values: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def build_plain(cls, value: object, where: str) -> Self:
        """Return limits from plain data. A hook of `validate.build`, with its UserErrors."""
        known = [
            (limits.key, limits.kind, limits.rule.field(default_factory=lambda default=limits.default: default))
            for limits in registry.limits()
            if limits.part == cls.part
        ]
        return cls(vars(build(make_dataclass(cls.__name__, known, kw_only=True), value, where)))

    def __getitem__(self, limits: Limits[T]) -> T:
        return cast(T, self.values.get(limits.key, limits.default))

    def plain(self) -> JsonObject:
        """Return the limits as plain data, defaults included."""
        return {limits.key: self[limits] for limits in registry.limits() if limits.part == self.part}


class ReferenceLimits(LimitSet):
    """Limits against the reference of the same run."""

    part = "reference"


class BaselineLimits(LimitSet):
    """Limits against an earlier run on this machine, for `baseline=DIR`."""

    part = "baseline"


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """A gate: its limits, error rate and rules for repetition."""

    name: str
    confirm: bool  # a fail is measured again before it is reported
    confirm_rebuilds: bool = True  # with new artifacts: a single slow build is not a regression
    alpha: float = least(0.0001, 0.5)  # probability of a wrong bound, shared evenly by all bounds
    indifferent: float = least(0.0, 1.0)  # loss of speed that does not matter, as a share
    must_find: float = least(0.001, 1.0)  # loss of speed that must not pass, as a share
    interim_launches: tuple[int, ...] = least(3)  # launches after which a speed limit may be decided
    reference: ReferenceLimits = field(default_factory=ReferenceLimits)
    baseline: BaselineLimits = field(default_factory=BaselineLimits)

    def __getitem__(self, limits: Limits[T]) -> T:
        """Return the gate's value for the key of these limits."""
        return self.reference[limits] if limits.part == "reference" else self.baseline[limits]

    def replaced(self, limits: Limits[T], value: T) -> Self:
        """Return a copy of the gate with another value for the key of these limits."""
        if limits.part == "reference":
            return replace(self, reference=ReferenceLimits({**self.reference.values, limits.key: value}))
        return replace(self, baseline=BaselineLimits({**self.baseline.values, limits.key: value}))

    def chosen(self, has_baseline: bool) -> list[tuple[Limits[Any], Any]]:
        """Return all limits with their values in the order of the gate's keys, `reference` first."""
        parts = ("reference", "baseline") if has_baseline else ("reference",)
        return [(limits, self[limits]) for part in parts for limits in registry.limits() if limits.part == part]

    def level(self, cells: int, has_baseline: bool) -> float:
        """Return the confidence of each one-sided bound, so that all bounds together err with at most `alpha`."""
        count = sum(limits.bounds(value) for limits, value in self.chosen(has_baseline))
        return 1 - self.alpha / max(1, count * cells)

    def needs_launches(self, has_baseline: bool) -> bool:
        """Return whether a limit needs interleaved launches."""
        return any(limits.needs_launches(value) for limits, value in self.chosen(has_baseline))

    def names(self, has_baseline: bool) -> list[str]:
        """Return the names of the limits, as in findings."""
        return [name for limits, value in self.chosen(has_baseline) for name in limits.names(value)]

    def benchmarks(self, has_baseline: bool) -> list[str]:
        """Return the benchmarks that the limits need: at least one, as a record cannot be empty."""
        needed = {name for limits, value in self.chosen(has_baseline) for name in limits.benchmarks(value)}
        known = benchmarks()
        return [name for name in known if name in needed] + sorted(needed - known.keys()) or ["memory"]

    def plain(self) -> JsonObject:
        """Return the gate as plain data, defaults included."""
        own = {part.name: getattr(self, part.name) for part in fields(self)}
        return {**own, "reference": self.reference.plain(), "baseline": self.baseline.plain()}


def check(gate: GateConfig) -> None:
    """Raise UserError for a gate that cannot judge any run."""
    if list(gate.interim_launches) != sorted(set(gate.interim_launches)):
        raise UserError(f"gate.interim_launches={list(gate.interim_launches)} must grow: as in [6, 10, 15, 20]")
    if gate.indifferent >= gate.must_find:
        raise UserError(
            f"gate.indifferent={gate.indifferent:g} must be less than gate.must_find={gate.must_find:g}: "
            "as in 0.02 and 0.05"
        )
    if not gate.names(has_baseline=True):
        raise UserError("the gate limits nothing: see conf/gate/ci.yaml for what can be limited")
