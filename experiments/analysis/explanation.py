"""The explanation of a cell: the causes of what is worse than its reference, and the ladder of its loss."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runtime_matrix.experiments.analysis.causes import NOT_PROFILED, Cause, Side, causes
from runtime_matrix.experiments.analysis.ladder import Ladder, Recorded, ladder
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.profile import Profile, read_profile
from runtime_matrix.experiments.records.row import Row


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a cell is slower, larger or less accurate than its reference."""

    causes: list[Cause]
    ladder: Ladder | None  # None: the cell runs as the reference does, or there is no reference
    problem: str | None = None  # why a profile cannot be read

    @property
    def needs_profile(self) -> bool:
        """Whether a cause is unknown because the cell or its reference was not profiled."""
        return any(cause.cause == NOT_PROFILED for cause in self.causes)


def reference_of(result: Result, results: Sequence[Result]) -> Result | None:
    """Return the record that a cell was compared with, else the reference of its run; None if there is none."""
    against = {one.against for one in (result.speed, result.diff) if one is not None}
    compared = [other for other in results if other.record.record_id in against]
    in_run = [
        other
        for other in results
        if other.record.is_reference
        and (other.record.run_id, other.record.model.digest, other.record.max_tokens)
        == (result.record.run_id, result.record.model.digest, result.record.max_tokens)
    ]
    return next(iter([*compared, *in_run]), None)


class Explainer:
    """Explains the cells of a folder."""

    def __init__(self, results: Sequence[Result], rows: Sequence[Row]):
        """`rows` has one row per result."""
        self._results, self._rows = results, {row.record_id: row for row in rows}
        self._recorded = Recorded((result, self._rows[result.record.record_id]) for result in results)

    def explain(self, result: Result) -> Explanation | None:
        """Return the explanation of a cell; None for a reference, a failed cell, or one without a reference."""
        reference = reference_of(result, self._results)
        if reference is None or reference is result or result.record.status != "ok":
            return None
        (own, problem), (other, other_problem) = (read_profile(one.folder) for one in (result, reference))
        cell, base = self._side(result, own), self._side(reference, other)
        return Explanation(
            causes=causes(cell, base),
            ladder=ladder(result, reference, self._recorded),
            problem=problem or other_problem,
        )

    def _side(self, result: Result, profile: Profile | None) -> Side:
        return Side(result, self._rows[result.record.record_id], profile)
