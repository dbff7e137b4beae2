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


def findings(one: Measured, gate: GateConfig, level: float) -> list[Finding]:
    """Return a finding a limit. UserError where the baseline holds other items."""
    if one.record["status"] != "ok":
        return [_not_measured(one)]
    found = [
        *judge_outputs(one, gate),
        *judge_speed(one, gate, level),
        *judge_answers(one, gate.reference.accuracy, "reference", level),
    ]
    launches = (one.record.get("speed") or {}).get("launches", [])
    found += judge_shares(one, "reference.memory", gate.reference.memory, row_of(one.reference_record), one.against)
    found += judge_peaks(one, "reference.memory", gate.reference.memory, grown_pairs(launches), one.against, level)
    if one.baseline is not None:
        memory, load = one.baseline["memory"], one.baseline["load"]
        found += judge_shares(one, "baseline.memory", gate.baseline.memory, memory, "the baseline")
        kept = grown_apart(launches, one.baseline.get("peaks", []), level)
        found += judge_peaks(one, "baseline.memory", gate.baseline.memory, kept, "the baseline", level)
        found += judge_shares(one, "baseline.load", gate.baseline.load, load, "the baseline")
        found += judge_answers(one, gate.baseline.accuracy, "baseline", level)
        found += judge_counts(one, gate.baseline.counts)
    return found


def overall(found: Sequence[Finding]) -> Verdict:
    """Return the gate's verdict: nothing judged is not a pass."""
    verdicts = {finding.verdict for finding in found}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def _not_measured(one: Measured) -> Finding:
    status, reason = one.record["status"], one.record["reason"]
    verdict: Verdict = "inconclusive" if status in ("unsupported", "interrupted") else "fail"
    message = f"not measured: {status}: {reason}; see {one.folder}/output.log"
    return Finding(one.label, "cell", verdict, message)
