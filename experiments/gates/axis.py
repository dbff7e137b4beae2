"""What an axis of a gate declares: how its limits are written and judged, what they need, what a baseline keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast

from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.records.comparison import Launch, Result

if TYPE_CHECKING:
    from runtime_matrix.experiments.cells.cell import Cell
    from runtime_matrix.experiments.gates.baseline import Baseline
    from runtime_matrix.experiments.gates.findings import LimitResult, Measured
    from runtime_matrix.experiments.gates.limits import GateConfig

Part = Literal["reference", "baseline"]
T = TypeVar("T")
LAST = 1000  # a place behind all of ours
_NO_RULE = Rule()


class LaunchLimit(Protocol):
    """A limit for which cells are launched until it is decided."""

    def is_decided(self, launches: Sequence[Launch]) -> bool: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Limits(Generic[T]):
    """The limits under one key of a gate's `reference` or `baseline`. Each method is given the value of that key.

    `kind` is the value's type and `rule` what it may hold; `default` is the value where the gate has no such key, as a
    rule "no limit". `place` orders findings: lower ones first, equal ones by key. An option is no limit: it alters how
    others are judged.
    """

    part: Part
    key: str
    kind: Any
    default: T
    rule: Rule = _NO_RULE
    place: int = LAST
    is_option: bool = False

    @property
    def name(self) -> str:
        return f"{self.part}.{self.key}"

    def names(self, limits: T) -> list[str]:
        """Return the names of the limits, as findings bear them."""
        if self.is_option or limits is None or limits is False:
            return []
        if isinstance(limits, Mapping | tuple):
            return [f"{self.name}.{element}" for element in limits]
        return [self.name]

    def judge(self, measured: Measured, limits: T, gate: GateConfig, level: float) -> list[LimitResult]:
        """Return a finding per limit of one cell that was measured; `level` is that of one one-sided bound.

        A figure that neither side knows has none. Limits against a baseline are judged only where there is one.
        """
        return []

    def judge_cells(self, limits: T, present: Collection[str], kept: Collection[str]) -> list[LimitResult]:
        """Return findings on the cells as a whole: `kept` are those of the baseline, `present` those of the run."""
        return []

    def bounds(self, limits: T) -> int:
        """Return how many one-sided bounds the limits have: the gate's error is shared evenly by all."""
        return 0

    def benchmarks(self, limits: T) -> Collection[str]:
        """Return the benchmarks that the limits need."""
        return ()

    def needs_launches(self, limits: T) -> bool:
        """Say whether launches beside the reference measure what is limited."""
        return False

    def needs_kept_launches(self, limits: T) -> bool:
        """Say whether a baseline that is made for the limits needs launches."""
        return self.part == "baseline" and self.needs_launches(limits)

    def phases(self, limits: T) -> Collection[str]:
        """Return the phases that launches must measure, see `records/ratios.py`."""
        return ()

    def launch_limits(
        self, limits: T, gate: GateConfig, baseline: Baseline | None, level: float
    ) -> Sequence[LaunchLimit]:
        """Return the limits for which cells are launched until they are decided, or until the gate's last look."""
        return ()

    def check_baseline(self, limits: T, baseline: Baseline, cell: Cell) -> None:
        """Raise UserError where the baseline cannot be compared with what the cell will measure."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept(ABC, Generic[T]):
    """What a baseline file keeps under one key.

    `kind` is a type that msgspec reads and `place` the order in the file. `absent` makes the value of files that lack
    the key; without it they are damaged, so that whatever is added later needs it.
    """

    key: str
    kind: Any
    absent: Callable[[], T] | None
    place: int = LAST

    @abstractmethod
    def make(self, result: Result, against: str | None) -> T:
        """Return what is kept of a cell; `against` names the runtime of its speed ratios."""

    def changes(self, before: T, now: T) -> list[str]:
        """Return a few words for each figure that differs from an earlier baseline's."""
        return []

    def of(self, baseline: Baseline) -> T:
        """Return what a baseline keeps."""
        return cast(T, getattr(baseline, self.key))


@dataclass(frozen=True, eq=False, kw_only=True)
class Axis:
    """One thing that gates can limit. `place` is its place among the keys of a gate: lower ones first, then by key."""

    limits: tuple[Limits[Any], ...]
    kept: tuple[Kept[Any], ...] = ()
    place: int = LAST
