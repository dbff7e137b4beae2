"""A cell that fails its audit passes no gate, whatever the gate limits."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.analysis.audit import audit, problem
from runtime_matrix.experiments.gates.findings import LimitResult, Measured


def audit_findings(measured: Measured, judged: Sequence[LimitResult]) -> list[LimitResult]:
    """Return the failed audit as a finding; empty if it did not fail, or if another finding of the gate names it."""
    failed = problem(audit(measured.result.record, measured.result.speed))
    if failed is None:
        return []
    text = f"{failed.status}: {failed.reason}"
    if any(finding.verdict == "fail" and finding.figures == text for finding in judged):
        return []
    return [LimitResult(measured.label, "audit", "fail", text)]
