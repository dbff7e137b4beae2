"""Were the timed tokens right? Those of each round against the reference's of the same round, or forced through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Request = tuple[list[int], int]  # ids, and the index of the first one that is scored
Force = Callable[[list[Request]], list[list[float]]]  # how much likelier the reference's own choice was, each token


@dataclass(frozen=True)
class Row:
    prompt: list[int]
    reference: list[int]
    candidate: list[int]


def compare_rows(
    rows: Sequence[Row], exact: bool, force: Force, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return counts over the rows, added to `earlier` ones.

    `tokens` of the candidate, `same_rows` that are the reference's, and of the tokens that were forced through the
    reference (`exact`: those of rows that differ; else all): `forced`, `forced_top` (that it would choose too) and
    `max_gap`, by how many nats its own choice was likelier at most. `missing` tokens were not produced.
    """
    differing = [row for row in rows if not exact or row.candidate != row.reference]
    wanted = [([*row.prompt, *row.candidate], len(row.prompt)) for row in differing if row.candidate]
    gaps = [gap for found in force(wanted) for gap in found] if wanted else []
    counts = {
        "rows": len(rows),
        "same_rows": sum(row.candidate == row.reference for row in rows),
        "tokens": sum(len(row.candidate) for row in rows),
        "missing": sum(max(0, len(row.reference) - len(row.candidate)) for row in rows),
        "forced": len(gaps),
        "forced_top": sum(gap == 0 for gap in gaps),
    }
    before = earlier or {}
    return {
        **{name: count + before.get(name, 0) for name, count in counts.items()},
        "max_gap": max([*gaps, before.get("max_gap", 0.0)]),
    }
