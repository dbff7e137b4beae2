"""What a gate limits, as it stands in `conf/gate/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.records.speed import PHASES
from runtime_matrix.experiments.strict import among, least

CPU_PHASES = ("decode", "prefill")
OUTPUTS = ("timed_work", "replay", "agreement")
MEMORY = ("weight_bytes", "weight_disk_bytes", "peak_host_bytes", "peak_device_bytes")
LOAD = ("load_s", "first_call_s")
UNITS = {**dict.fromkeys(MEMORY, "bytes"), **dict.fromkeys(LOAD, "s")}
ACCURACY = ("perplexity", "multiple_choice", "code", "extractive_qa", "summarization")
_OTHERS = ("latency", "memory")
COUNTS = ("graph_breaks", "recompiles", "fallback_nodes", "tokens")


@dataclass(frozen=True, kw_only=True)
class ReferenceLimits:
    """Against the reference that the same run measured."""

    speedup: dict[str, float] = least(0.001, keys=PHASES)  # least times faster by wall time, by phase
    cpu_speedup: dict[str, float] = least(0.001, keys=CPU_PHASES, default_factory=dict)  # by CPU time of one thread
    outputs: tuple[str, ...] = among(*OUTPUTS, may_be_empty=True, default=OUTPUTS)  # that must be the reference's
    same_top: float = least(0, 1, default=0.75)  # share of its top tokens that weights unlike its own must choose too
    memory: dict[str, float] = least(0, keys=MEMORY, default_factory=dict)  # share by which a figure may exceed its
    accuracy: dict[str, float] = least(0, keys=ACCURACY)  # margin of the loss: score from 0 to 1, nats a token


@dataclass(frozen=True, kw_only=True)
class BaselineLimits:
    """Against what an earlier run on this machine left, where `baseline=DIR` names it."""

    speedup: tuple[str, ...] = among(*PHASES, may_be_empty=True)  # phases that may not lose speed on the reference
    cpu_speedup: tuple[str, ...] = among(*CPU_PHASES, may_be_empty=True, default=())
    memory: dict[str, float] = least(0, keys=MEMORY)
    load: dict[str, float] = least(0, keys=LOAD)
    accuracy: dict[str, float] = least(0, keys=ACCURACY)
    counts: tuple[str, ...] = among(*COUNTS, may_be_empty=True)  # none may grow; tokens may not change
    all_cells: bool = False  # a cell of the baseline that the run lacks is inconclusive


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    name: str
    confirm: bool  # a fail is measured again, afresh, before it is reported
    confirm_rebuilds: bool = True  # with artifacts that are built anew: a build that came out slow is not a regression
    error: float = least(0.0001, 0.5)  # chance of a wrong bound, shared evenly by all limits that have one
    indifferent: float = least(0.0, 1.0)  # share of speed whose loss does not matter
    must_find: float = least(0.001, 1.0)  # share of speed whose loss must not pass
    looks: tuple[int, ...] = least(3)  # launches after which a speed limit may be decided
    reference: ReferenceLimits
    baseline: BaselineLimits

    def level(self, cells: int, has_baseline: bool) -> float:
        """Return the level of each one-sided bound, such that all bounds together err as rarely as `error` says."""
        parts: list[Any] = [self.reference, *([self.baseline] if has_baseline else [])]
        count = sum(len(part.speedup) + len(part.cpu_speedup) + len(part.accuracy) for part in parts)
        return 1 - self.error / max(1, count * cells)

    def limits_peaks(self, has_baseline: bool) -> bool:
        """Say whether a peak of memory is limited, which launches measure."""
        parts = [self.reference.memory, *([self.baseline.memory] if has_baseline else [])]
        return any("peak_host_bytes" in memory for memory in parts)

    def names(self, has_baseline: bool) -> list[str]:
        """Return the names of the limits, as findings bear them."""
        parts = {"reference": self.reference, **({"baseline": self.baseline} if has_baseline else {})}
        groups = [(f"{part}.{group}", limits) for part, one in parts.items() for group, limits in vars(one).items()]
        return [
            f"{group}.{name}" for group, limits in groups if not isinstance(limits, bool | float) for name in limits
        ]

    def benchmarks(self, has_baseline: bool) -> list[str]:
        """Return the benchmarks that its limits need: at least one, since a cell has a record."""
        parts: list[Any] = [self.reference, *([self.baseline] if has_baseline else [])]
        wanted = {name for part in parts for name in part.accuracy}
        if any(name.startswith("peak") for part in parts for name in part.memory):
            wanted.add("memory")
        if (has_baseline and "first_call_s" in self.baseline.load) or "replay" in self.reference.outputs:
            wanted.add("latency")
        return [name for name in (*_OTHERS, *ACCURACY) if name in wanted] or ["memory"]


def check(gate: GateConfig) -> None:
    """Raise UserError for limits that no run can be judged by."""
    if list(gate.looks) != sorted(set(gate.looks)):
        raise UserError(f"gate.looks={list(gate.looks)} must grow: as in [6, 10, 15, 20]")
    if gate.indifferent >= gate.must_find:
        raise UserError(
            f"gate.indifferent={gate.indifferent:g} must be less than gate.must_find={gate.must_find:g}: "
            "as in 0.02 and 0.05"
        )
    limits = (gate.reference, gate.baseline)
    options = ("all_cells", "same_top")
    if not any(getattr(part, name) for part in limits for name in vars(part) if name not in options):
        raise UserError("the gate limits nothing: see conf/gate/ci.yaml for what can be limited")
