"""The explanation of a cell: the causes of what is worse than its reference, and the ladder of its loss."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runtime_matrix.experiments.analysis.causes import NOT_PROFILED, Cause, Side, causes
from runtime_matrix.experiments.analysis.ladder import Ladder, ladder
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.profile import read_profile
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
        and (other.record.run_id, other.record.model.digest) == (result.record.run_id, result.record.model.digest)
    ]
    return next(iter([*compared, *in_run]), None)


def explanation(result: Result, results: Sequence[Result], rows: Sequence[Row]) -> Explanation | None:
    """Return the explanation of a cell; None for a reference, a failed cell, or one without a reference.

    `rows` has one row per result.
    """
    row_of = {row.record_id: row for row in rows}
    reference = reference_of(result, results)
    if reference is None or reference is result or result.record.status != "ok":
        return None
    profiles = [read_profile(one.folder) for one in (result, reference)]
    sides = [
        Side(one, row_of[one.record.record_id], kept)
        for one, (kept, _) in zip((result, reference), profiles, strict=True)
    ]
    return Explanation(
        causes=causes(*sides),
        ladder=ladder(result, reference, [(one, row_of[one.record.record_id]) for one in results]),
        problem=next((problem for _, problem in profiles if problem), None),
    )
