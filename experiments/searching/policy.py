"""Which candidates go on to the next level: successive halving over intervals. Numbers in, decisions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.statistics.interval import Interval


@dataclass(frozen=True)
class Seen:
    """What all levels so far show about a candidate.

    `gain` is a log ratio over the reference, above 0 is better; None: not measured. `is_feasible`: True or False if the
    bounds of the intervals show it, None if they do not. A candidate that has failed is not feasible.
    """

    name: str
    gain: Interval | None
    is_feasible: bool | None
    why: str = ""  # for False: the constraint that it breaks, or how it failed; for None: what is not shown


def dropped(seen: Sequence[Seen]) -> dict[str, str]:
    """Return the candidates that do not go on, with the reason.

    Those are the ones that break a constraint by their bounds, and those whose whole interval is below that of the best
    candidate shown to be feasible. If nothing can be shown, a candidate goes on.
    """
    leader = _leader(seen)
    reasons = {}
    for one in seen:
        if one.is_feasible is False:
            reasons[one.name] = one.why
        elif leader and leader.gain and one.gain and one.gain.high < leader.gain.low:
            reasons[one.name] = f"worse than {leader.name}"
    return reasons


def best(seen: Sequence[Seen]) -> Seen | None:
    """Return the candidate with the largest gain among those shown to be feasible; None if there is none."""
    shown = [one for one in seen if one.is_feasible and one.gain is not None]
    return max(shown, key=lambda one: one.gain.estimate if one.gain else 0.0, default=None)


def tied(seen: Sequence[Seen], winner: Seen) -> list[Seen]:
    """Return the other feasible candidates whose interval overlaps the winner's."""
    return [
        one
        for one in seen
        if one is not winner and one.is_feasible and one.gain and winner.gain and one.gain.high >= winner.gain.low
    ]


def _leader(seen: Sequence[Seen]) -> Seen | None:
    """Return the feasible candidate with the highest lower bound: everything below it is worse than a feasible one."""
    shown = [one for one in seen if one.is_feasible and one.gain is not None]
    return max(shown, key=lambda one: one.gain.low if one.gain else 0.0, default=None)
