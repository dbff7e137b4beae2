"""All claims beside the figures of a matrix, with their verdicts and their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.ledger.claim import FACTOR, Claim
from runtime_matrix.experiments.ledger.evidence import Evidence, evidence
from runtime_matrix.experiments.ledger.verdict import Measured, Verdict, verdict
from runtime_matrix.experiments.records.row import Row

_NO_RECORD = "no record of these has the figure"
_COUNTED: dict[Verdict, str] = {  # in the order of the closing line
    "holds": "hold",
    "more": "more",
    "less": "less",
    "opposite": "opposite",
    "unclear": "unclear",
    "other baseline": "of another baseline",
    "no figure": "without a claimed figure",
}


@dataclass(frozen=True)
class Judged:
    """A claim, its evidence and the verdict."""

    claim: Claim
    evidence: Evidence | None
    verdict: Verdict

    @property
    def claimed(self) -> str:
        """Return the claimed range as text."""
        claim = self.claim
        if claim.claimed is not None:
            return claim.claimed
        unit = claim.unit if claim.unit == FACTOR else f" {claim.unit}"
        if claim.low is None or claim.high is None:
            return f"≥ {_number(claim.low)}{unit}" if claim.high is None else f"≤ {_number(claim.high)}{unit}"
        ends = dict.fromkeys((_number(claim.low), _number(claim.high)))
        return f"{'–'.join(ends)}{unit}"

    @property
    def measured(self) -> str:
        """Return the measured value with its interval as text."""
        if self.evidence is None:
            return "n/a"
        measured, unit = self.evidence.measured, self.claim.unit
        text = f"{_number(measured.value)}{_bounds(measured)}"
        return text if unit == FACTOR else f"{text} {unit}"

    @property
    def reason(self) -> str:
        """Return why there is no verdict on the effect: why it is unmeasured, or which baseline is another one."""
        if self.evidence is not None:
            return self.claim.other_baseline or ""
        return self.claim.unmeasured or _NO_RECORD


def judge(claims: Sequence[Claim], rows: Sequence[Row]) -> list[Judged]:
    """Return each claim with its newest evidence and verdict."""
    found = [(claim, evidence(claim, rows)) for claim in claims]
    return [Judged(claim, one, verdict(claim, one.measured if one is not None else None)) for claim, one in found]


def closing_line(judged: Sequence[Judged]) -> str:
    """Return the numbers of claims by verdict in one line."""
    counts = Counter(one.verdict for one in judged)
    measured = len(judged) - counts["unmeasured"]
    parts = [f"{counts[name]} {phrase}" for name, phrase in _COUNTED.items() if counts[name] or name in _ALWAYS]
    noun = "claim" if len(judged) == 1 else "claims"
    return f"{len(judged)} {noun}: {measured} measured ({', '.join(parts)}), {counts['unmeasured']} unmeasured"


_ALWAYS = ("holds", "more", "less", "opposite")


def _bounds(measured: Measured) -> str:
    if measured.low is None or measured.high is None or measured.low == measured.high:
        return ""
    return f" [{_number(measured.low)}, {_number(measured.high)}]"


def _number(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
