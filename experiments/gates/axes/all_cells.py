"""The set of cells: a cell of the baseline that is missing in the run is inconclusive."""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import override

from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.findings import LimitResult

_MISSING = "in the baseline but not in this run; add it with -m runtime=…, or remove its file"


class AllCells(Limits[bool]):
    """The option that every cell of the baseline must be in the run."""

    @override
    def judge_cells(self, limits: bool, present: Collection[str], kept: Collection[str]) -> list[LimitResult]:
        missing = [label for label in kept if label not in present] if limits else []
        return [LimitResult(label, "cell", "inconclusive", _MISSING) for label in missing]


BASELINE = AllCells(part="baseline", key="all_cells", kind=bool, default=False, is_option=True)
AXIS = Axis(limits=(BASELINE,), place=80)
