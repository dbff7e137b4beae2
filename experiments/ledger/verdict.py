"""The verdict on a claim: a pure function of the claimed range and the measured interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime_matrix.experiments.ledger.claim import Claim

Verdict = Literal["holds", "more", "less", "opposite", "unclear", "other baseline", "no figure", "unmeasured"]


@dataclass(frozen=True)
class Measured:
    """A measured value with its bounds; both equal it if the figure is exact, and are None if it has no interval."""

    value: float
    low: float | None
    high: float | None

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the bounds; without an interval, the value twice."""
        return (self.value if self.low is None else self.low), (self.value if self.high is None else self.high)


def verdict(claim: Claim, measured: Measured | None) -> Verdict:
    """Return the verdict on a claim; the first rule that applies:

    - unmeasured: there is no figure.
    - no figure: the document gives none, such as "instant".
    - other baseline: the entry names how ours differs from the stated baseline or hardware.
    - opposite: of a gain or loss; the interval is wholly on the other side of 1.
    - less, more: the interval does not meet the claimed range, and the effect is smaller or larger than claimed. A loss
      is larger the further it is below 1; the other directions are larger the higher.
    - unclear: the interval meets the range but also holds 1, on the other side of which the claim cannot be.
    - holds: the interval meets the range, on the claimed side of 1.
    """
    if measured is None:
        return "unmeasured"
    if not claim.has_figure:
        return "no figure"
    if claim.other_baseline is not None:
        return "other baseline"
    low, high = measured.bounds
    if (claim.direction == "gain" and high < 1) or (claim.direction == "loss" and low > 1):
        return "opposite"
    if claim.low is not None and high < claim.low:
        return "more" if claim.direction == "loss" else "less"
    if claim.high is not None and low > claim.high:
        return "less" if claim.direction == "loss" else "more"
    return "unclear" if _holds_no_effect(claim, low, high) else "holds"


def _holds_no_effect(claim: Claim, low: float, high: float) -> bool:
    """Return whether the interval holds 1 and the claimed range of a gain or loss does not."""
    if claim.direction not in ("gain", "loss") or not low <= 1 <= high:
        return False
    return (claim.low is not None and claim.low > 1) or (claim.high is not None and claim.high < 1)
