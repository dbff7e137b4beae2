"""Measure a claim again, interleaved with its reference, and judge each of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime_matrix.experiments.analysis.audit import audit, problem
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.schema import FAILED_TIMING
from runtime_matrix.experiments.records.store import attach
from runtime_matrix.experiments.reproduction.claim import Claim
from runtime_matrix.experiments.reproduction.score_findings import paired_findings, published_findings
from runtime_matrix.experiments.reproduction.speed_findings import Finding, Verdict, memory_finding, speed_findings
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner

FEWEST, MOST = 4, 10  # launches, unless their number is given


class NotMeasured(Exception):
    """The cell or its reference could not be measured; the message is the reason in one line."""


@dataclass(frozen=True)
class Reproduction:
    """The findings of a claim, and the new record behind them."""

    findings: list[Finding]
    result: Result

    @property
    def verdict(self) -> Verdict:
        """Return the verdict: refuted by any finding, reproduced if all that are needed are."""
        verdicts = {finding.verdict for finding in self.findings}
        if "not reproduced" in verdicts:
            return "not reproduced"
        needed = {finding.verdict for finding in self.findings if finding.is_needed}
        return "reproduced" if needed == {"reproduced"} else "inconclusive"


def reproduce(claim: Claim, launches: int | None, progress: Progress) -> Reproduction:
    """Measure the claim's cells and judge them. NotMeasured if that fails."""
    result, dropped = _measured(claim, launches, progress)
    findings: list[Finding] = []
    failed = problem(audit(result.record, result.speed))
    measured = result.speed.launches if result.speed is not None else []
    if failed is not None:
        findings.append(Finding("audit", "not reproduced", f"{failed.status}: {failed.reason}"))
    elif dropped is not None:
        raise NotMeasured(dropped)
    elif not claim.launches:
        if not claim.is_own_reference:
            findings.append(Finding("speed", "inconclusive", claim.no_launches))
    else:
        speeds = speed_findings(claim.launches, measured)
        findings += speeds or [Finding("speed", "inconclusive", "one launch gives no interval")]
        memory = memory_finding(claim.launches, measured)
        findings += [memory] if memory is not None else []
    if claim.result is not None:
        findings += paired_findings(claim.result, result)
    elif claim.figures is not None:
        findings += published_findings(claim.figures, result)
    return Reproduction(findings, result)


def _measured(claim: Claim, launches: int | None, progress: Progress) -> tuple[Result, str | None]:
    """Return the new record with its launches, and why they ended early."""
    cells = [claim.cell] if claim.is_own_reference else [claim.reference, claim.cell]
    records = measure_cells(cells, progress)
    for record in records:
        if record.status != "ok" and record.status not in FAILED_TIMING:
            raise NotMeasured(f"{record.runtime.name}: {record.status}: {record.reason}")
    results = Path(claim.cell.config.results_dir)
    (result,) = attach(records[-1:], results)
    if not claim.launches:
        return result, None
    count = launches or min(MOST, max(FEWEST, len(claim.launches)))
    options = replace(claim.cell.config.comparison, launches=count)
    first, last = (Runner(cell, results / record.record_id) for cell, record in zip(cells, records, strict=True))

    def note(done: int, stored: Sequence[Launch]) -> None:
        speedup = ratio(stored, "decode", Clock.WALL)
        suffix = f": decode {speedup.estimate:.3f}× [{speedup.low:.3f}, {speedup.high:.3f}]" if speedup else ""
        progress.note(f"launch {done} of {count}{suffix}")

    reasons = compare_speed(first, [last], options, Clock.WALL, note, tick=progress.tick)
    (result,) = attach(records[-1:], results)
    return result, reasons[last.folder]
