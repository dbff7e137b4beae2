"""Types of the audit: what is recorded for it, and the verdict of each check.

The checks follow MLPerf's compliance tests, https://github.com/mlcommons/inference/tree/master/compliance. Raw evidence
is stored with records and launches; verdicts are derived on reading, see `analysis/audit.py`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

AuditVerdict = Literal["pass", "fail", "not_checked"]
CheckName = Literal[
    "timed_answers",  # as in TEST01: the timed runtime answers as the scored one
    "repeated_prompts",  # as in TEST04: no answer comes from an undeclared cache
    "token_counts",  # as in TEST06 and TEST09: counted tokens were produced, in the requested number
    "row_order",  # permuted rows give permuted outputs
    "threads",  # the runtime computes with the threads that it was given
    "after_clock",  # nothing is computed while the clock is stopped
]


class Probe(Struct, frozen=True, kw_only=True):
    """The answers of a runtime to a fixed batch: after each prompt, and after each of some given tokens.

    `logprobs` and `top_tokens` have one value per row and position. `row_order_ratio`: the largest difference of a
    row's logits between two orders of the rows, over the median difference between two rows; None for a single row.
    """

    rows: int
    top_tokens: list[int]
    logprobs: list[float]  # of the top tokens, in nats
    row_order_ratio: float | None


class ProbeFailure(Struct, frozen=True, kw_only=True):
    """Why a probe could not be taken."""

    reason: str


class Rest(Struct, frozen=True, kw_only=True):
    """CPU time of a process and its descendants after its last round, in which nothing should be computed."""

    wall_s: float
    cpu_s: float


class TimedAudit(Struct, frozen=True, kw_only=True):
    """Evidence from the process whose rounds were timed."""

    rest: Rest
    probe: Probe | None = None  # None if it could not be taken


class Check(Struct, frozen=True, kw_only=True):
    """One check of the audit."""

    name: CheckName
    verdict: AuditVerdict
    found: str  # what was found, or why it was not checked
    figures: dict[str, float] = {}

    @property
    def title(self) -> str:
        """Return the name as text."""
        return self.name.replace("_", " ")


class Audit(Struct, frozen=True, kw_only=True):
    """The audit of a record and its launches: one entry per check, in the order of `CheckName`."""

    checks: list[Check]

    @property
    def verdict(self) -> AuditVerdict:
        """Return fail if a check failed, pass if all passed, otherwise not_checked."""
        verdicts = {check.verdict for check in self.checks}
        if "fail" in verdicts:
            return "fail"
        return "pass" if verdicts == {"pass"} else "not_checked"

    @property
    def note(self) -> str | None:
        """Return what failed, otherwise what was not checked; None if all checks passed."""
        failed = [check for check in self.checks if check.verdict == "fail"]
        if failed:
            return "; ".join(f"{check.title}: {check.found}" for check in failed)
        unchecked: dict[str, list[str]] = {}  # checks by reason
        for check in self.checks:
            if check.verdict == "not_checked":
                unchecked.setdefault(check.found, []).append(check.title)
        texts = [f"{', '.join(titles)}: {reason}" for reason, titles in unchecked.items()]
        return f"not checked: {'; '.join(texts)}" if texts else None
