"""Check the timed tokens against those of the reference in the same round, or by scoring them with the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.records.comparison import TimedTokens

Request = tuple[list[int], int]  # token ids, and the index of the first scored one
# Per scored token: the log-probability of the reference's own choice minus that of the token, in nats.
Force = Callable[[list[Request]], list[list[float]]]
_NONE = TimedTokens(tokens=0, missing=0, forced=0, forced_top=0, max_gap=0.0)


@dataclass(frozen=True)
class TimedRow:
    """Token ids of one row of a batch: the prompt, and the tokens of both cells.

    `reference` is None for a row of a batch that is larger than the reference's.
    """

    prompt: list[int]
    reference: list[int] | None
    candidate: list[int]
    new_tokens: int  # as requested


def compare_rows(
    rows: Sequence[TimedRow], exact: bool, force: Force, earlier: TimedTokens | None = None
) -> TimedTokens:
    """Return counts over the rows, added to `earlier`.

    `force` scores the tokens of all rows with the reference; with `exact`, only of rows that differ from the
    reference's. `missing` counts tokens that were not produced; `rows` are those that the reference generated too.
    """
    before = earlier or _NONE
    differing = [row for row in rows if not exact or row.candidate != row.reference]
    requests = [([*row.prompt, *row.candidate], len(row.prompt)) for row in differing if row.candidate]
    gaps = [gap for scored in force(requests) for gap in scored] if requests else []
    return TimedTokens(
        rows=before.rows + sum(row.reference is not None for row in rows),
        same_rows=before.same_rows + sum(row.candidate == row.reference for row in rows),
        tokens=before.tokens + sum(len(row.candidate) for row in rows),
        missing=before.missing + sum(max(0, row.new_tokens - len(row.candidate)) for row in rows),
        forced=before.forced + len(gaps),
        forced_top=before.forced_top + sum(gap == 0 for gap in gaps),
        max_gap=max([*gaps, before.max_gap]),
    )
