"""Verdicts of a gate's limits on measured cells. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.gates.audited import audit_findings
from runtime_matrix.experiments.gates.axis import LaunchLimit
from runtime_matrix.experiments.gates.baseline import Baseline
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.registry import judged_limits
from runtime_matrix.experiments.statistics.sequential import Verdict


def findings(measured: Measured, gate: GateConfig, level: float) -> list[LimitResult]:
    """Return one finding per limit, in the order of `registry.judged_limits`.

    UserError if the baseline has other items.
    """
    if measured.result.record.status != "ok":
        return [_not_measured(measured)]
    judged = [
        finding
        for limits in judged_limits()
        if limits.part == "reference" or measured.baseline is not None
        for finding in limits.judge(measured, gate[limits], gate, level)
    ]
    return [*judged, *audit_findings(measured, judged)]


def launch_limits(gate: GateConfig, baseline: Baseline | None, level: float) -> list[LaunchLimit]:
    """Return the limits that need launches of a cell until they are decided."""
    chosen = gate.chosen(baseline is not None)
    return [limit for limits, value in chosen for limit in limits.launch_limits(value, gate, baseline, level)]


def overall(results: Sequence[LimitResult]) -> Verdict:
    """Return the gate's verdict; without any finding it is inconclusive."""
    verdicts = {result.verdict for result in results}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def _not_measured(measured: Measured) -> LimitResult:
    record = measured.result.record
    verdict: Verdict = "inconclusive" if record.status in ("unsupported", "interrupted") else "fail"
    message = f"not measured: {record.status}: {record.reason}; see {measured.result.folder}/output.log"
    return LimitResult(measured.label, "cell", verdict, message)
