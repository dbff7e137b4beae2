"""The interface of a gate's axis: how limits are written and judged, what they need, and what a baseline keeps."""

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
LAST = 1000  # a place after all built-in ones
_NO_RULE = Rule()


class LaunchLimit(Protocol):
    """A limit that needs launches until it is decided."""

    def is_decided(self, launches: Sequence[Launch]) -> bool:
        """Return whether these launches are enough for a verdict."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Limits(Generic[T]):
    """The limits under one key of a gate's `reference` or `baseline`. The value of that key is passed to each method.

    `kind` is the value's type and `rule` its constraint. `default` is the value if the gate lacks the key, usually "no
    limit". `place` orders findings: lower ones first, equal ones by key. An option is not a limit: it changes how
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
        """Return the part and the key, as in `reference.speedup`."""
        return f"{self.part}.{self.key}"

    def names(self, limits: T) -> list[str]:
        """Return the names of the limits, as in findings."""
        if self.is_option or limits is None or limits is False:
            return []
        if isinstance(limits, Mapping | tuple):
            return [f"{self.name}.{element}" for element in limits]
        return [self.name]

    def judge(self, measured: Measured, limits: T, gate: GateConfig, level: float) -> list[LimitResult]:
        """Return one finding per limit for a measured cell. `level`: confidence of each one-sided bound.

        A figure that is unknown on both sides has no finding. Limits of the baseline part require a baseline.
        """
        return []

    def judge_cells(self, limits: T, present: Collection[str], kept: Collection[str]) -> list[LimitResult]:
        """Return findings on the set of cells. `present`: those of the run; `kept`: those of the baseline."""
        return []

    def bounds(self, limits: T) -> int:
        """Return the number of one-sided bounds; the gate's alpha is shared evenly by all bounds."""
        return 0

    def benchmarks(self, limits: T) -> Collection[str]:
        """Return the benchmarks that the limits need."""
        return ()

    def needs_launches(self, limits: T) -> bool:
        """Return whether the limits need interleaved launches."""
        return False

    def needs_kept_launches(self, limits: T) -> bool:
        """Return whether a baseline for these limits needs launches."""
        return self.part == "baseline" and self.needs_launches(limits)

    def phases(self, limits: T) -> Collection[str]:
        """Return the phases that launches must time, see `records/ratios.py`."""
        return ()

    def launch_limits(
        self, limits: T, gate: GateConfig, baseline: Baseline | None, level: float
    ) -> Sequence[LaunchLimit]:
        """Return the limits that need launches until they are decided or the gate's maximum is reached."""
        return ()

    def check_baseline(self, limits: T, baseline: Baseline, cell: Cell) -> None:
        """Raise UserError if the baseline is not comparable with the planned measurement of the cell."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept(ABC, Generic[T]):
    """The content of a baseline file under one key.

    `kind` is a type for msgspec and `place` the order in the file. `absent` makes the value for files without the key;
    without `absent` such files count as damaged, so keys that are added later need it.
    """

    key: str
    kind: Any
    absent: Callable[[], T] | None
    place: int = LAST

    @abstractmethod
    def make(self, result: Result, against: str | None) -> T:
        """Return the content for a cell. `against`: the runtime that its speed ratios refer to."""

    def changes(self, before: T, now: T) -> list[str]:
        """Return a short text for each figure that differs from the earlier baseline."""
        return []

    def of(self, baseline: Baseline) -> T:
        """Return this part of a baseline."""
        return cast(T, getattr(baseline, self.key))


@dataclass(frozen=True, eq=False, kw_only=True)
class Axis:
    """One property that gates can limit. `place` orders the keys of a gate: lower ones first, then by key."""

    limits: tuple[Limits[Any], ...]
    kept: tuple[Kept[Any], ...] = ()
    place: int = LAST
