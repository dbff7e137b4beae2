"""Verdicts: each limit of a gate on what a cell measured. Numbers in, findings out; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.gates.answers_limits import judge_answers
from runtime_matrix.experiments.gates.figures_limits import (
    grown_apart,
    grown_pairs,
    judge_counts,
    judge_peaks,
    judge_shares,
)
from runtime_matrix.experiments.gates.findings import Finding, Measured, row_of
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.outputs_limits import judge_outputs
from runtime_matrix.experiments.gates.speed_limits import judge_speed
from runtime_matrix.experiments.measurement.sequential import Verdict


def findings(measured: Measured, gate: GateConfig, level: float) -> list[Finding]:
    """Return one finding per limit. UserError where the baseline holds other items."""
    if measured.result.record.status != "ok":
        return [_not_measured(measured)]
    found = [
        *judge_outputs(measured, gate),
        *judge_speed(measured, gate, level),
        *judge_answers(measured, gate.reference.accuracy, "reference", level),
    ]
    launches, against, baseline = measured.launches, measured.against, measured.baseline
    memory, grown = gate.reference.memory, grown_pairs(launches)
    found += judge_shares(measured, "reference.memory", memory, row_of(measured.reference).figures, against)
    found += judge_peaks(measured, "reference.memory", memory, grown, against, level)
    if baseline is not None:
        limits = gate.baseline
        found += judge_shares(measured, "baseline.memory", limits.memory, baseline.memory, "the baseline")
        kept = grown_apart(launches, baseline.peaks, level)
        found += judge_peaks(measured, "baseline.memory", limits.memory, kept, "the baseline", level)
        found += judge_shares(measured, "baseline.load", limits.load, baseline.load, "the baseline")
        found += judge_answers(measured, limits.accuracy, "baseline", level)
        found += judge_counts(measured, baseline, limits.counts)
    return found


def overall(found: Sequence[Finding]) -> Verdict:
    """Return the gate's verdict: nothing judged is not a pass."""
    verdicts = {finding.verdict for finding in found}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def _not_measured(measured: Measured) -> Finding:
    record = measured.result.record
    verdict: Verdict = "inconclusive" if record.status in ("unsupported", "interrupted") else "fail"
    message = f"not measured: {record.status}: {record.reason}; see {measured.result.folder}/output.log"
    return Finding(measured.label, "cell", verdict, message)
