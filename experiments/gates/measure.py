"""A gate's run: measure the cells, launch until each limit is decided, judge, and measure a fail once more."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.baseline import Baseline, check_baseline
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.judge import findings, launch_limits, overall
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.speed_limits import losses
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.ratios import Clock
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import attach
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.injection import CONFIRM, Injection
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner

_LONG_TOKENS = 128  # new ones of a long text, where the comparison's options say nothing


@dataclass(frozen=True)
class Candidate:
    cell: Cell
    baseline: Baseline | None
    injection: Injection | None = None  # a known slowdown, to test the gate itself


@dataclass(frozen=True)
class GateResult:
    findings: list[LimitResult]
    measured: list[Measured]
    was_repeated: bool

    @property
    def verdict(self) -> Verdict:
        return overall(self.findings)


def run_gate(reference: Cell, candidates: Sequence[Candidate], gate: GateConfig, progress: Progress) -> GateResult:
    """Measure and judge; UserError for a baseline that cannot be compared with."""
    here = environment()
    for candidate in candidates:
        if candidate.baseline is not None:
            check_baseline(candidate.baseline, candidate.cell, here, gate)
    level = gate.level(len(candidates), any(candidate.baseline is not None for candidate in candidates))
    measured, first = _once(reference, candidates, gate, level, progress)
    failed = {finding.cell for finding in first if finding.verdict == "fail"}
    if not failed or not gate.confirm:
        return GateResult(first, measured, False)
    progress.note("a limit failed: measured once more, afresh")
    again = [candidate for candidate in candidates if candidate.cell.label in failed]
    if gate.confirm_rebuilds:
        reference = _rebuilt(reference)
        again = [replace(candidate, cell=_rebuilt(candidate.cell)) for candidate in again]
    try:
        repeated, second = _once(reference, again, gate, level, progress)
    finally:
        if gate.confirm_rebuilds:
            for cell in (reference, *(candidate.cell for candidate in again)):
                shutil.rmtree(cell.artifacts, ignore_errors=True)
    labels = {cell.label for cell in repeated}
    kept = [cell for cell in measured if cell.label not in labels]
    return GateResult(confirmed(first, second), [*kept, *repeated], True)


def _rebuilt(cell: Cell) -> Cell:
    """Return the cell with a folder of artifacts that is empty: what it needs is built again."""
    return replace(cell, artifacts=cell.artifacts.with_name(f"{cell.artifacts.name}{CONFIRM}{secrets.token_hex(3)}"))


def measure_for_baseline(
    reference: Cell, cells: Sequence[Cell], gate: GateConfig, progress: Progress
) -> list[Measured]:
    """Measure all that a baseline keeps, with as many launches as the last look of the gate."""
    results = Path(reference.config.results_dir)
    first, *others = measure_cells([reference, *cells], progress)
    home = results / first.record_id
    is_launched = any(limits.needs_kept_launches(value) for limits, value in gate.chosen(has_baseline=True))
    if first.status == "ok" and is_launched:
        compare_speed(
            Runner(reference, home),
            [
                Runner(cell, results / record.record_id)
                for cell, record in zip(cells, others, strict=True)
                if record.status == "ok"
            ],
            _options(reference, gate, launches=gate.interim_launches[-1]),
            Clock.WALL,
            lambda done, launches: progress.note(f"launch {done} of {gate.interim_launches[-1]}"),
            tick=progress.tick,
        )
    elif first.status != "ok":
        reason = f"the reference: {first.reason}"
        others = [structs.replace(record, status=first.status, reason=reason) for record in others]
    return [
        Measured(cell.label, result, Result(first, home), None)
        for cell, result in zip(cells, attach(others, results), strict=True)
    ]


def _options(reference: Cell, gate: GateConfig, **options: Any) -> ComparisonConfig:
    """Return how launches are run: with those rounds that the gate's limits are of."""
    asked = reference.config.comparison
    wanted = {phase for limits, value in gate.chosen(has_baseline=True) for phase in limits.phases(value)}
    room = (reference.facts.max_length or _LONG_TOKENS + max(asked.prompt_tokens)) - max(asked.prompt_tokens)
    if "long_decode" in wanted:
        options["long_new_tokens"] = asked.long_new_tokens or min(_LONG_TOKENS, room)
    options["batched"] = asked.batched if "throughput" in wanted else None
    return replace(asked, **options)


def confirmed(first: Sequence[LimitResult], second: Sequence[LimitResult]) -> list[LimitResult]:
    """Return the findings, each fail replaced by what its repetition found."""
    again = {(finding.cell, finding.name): finding for finding in second}
    kept = [_repeated(finding, again.get((finding.cell, finding.name))) for finding in first]
    names = {(finding.cell, finding.name) for finding in kept}
    return kept + [finding for finding in second if (finding.cell, finding.name) not in names]


def _repeated(finding: LimitResult, repetition: LimitResult | None) -> LimitResult:
    if finding.verdict == "fail" and repetition is not None:
        how = "failed twice" if repetition.verdict == "fail" else "failed once, and not in a fresh repetition"
        return replace(repetition, history=f"{how}; first: {finding.figures}")
    if finding.verdict == "fail" and finding.name == "cell":
        return replace(finding, verdict="inconclusive", history="it was measured when repeated")
    return finding


def _once(
    reference: Cell, candidates: Sequence[Candidate], gate: GateConfig, level: float, progress: Progress
) -> tuple[list[Measured], list[LimitResult]]:
    results = Path(reference.config.results_dir)
    progress.expect(1 + len(candidates))
    first, *others = measure_cells([reference, *(candidate.cell for candidate in candidates)], progress)
    if first.status != "ok":
        message = f"the reference was not measured: {first.status}: {first.reason}"
        return [], [LimitResult(candidate.cell.label, "cell", "inconclusive", message) for candidate in candidates]
    _compare(reference, first, list(zip(candidates, others, strict=True)), gate, level, progress)
    against = Result(first, results / first.record_id)
    measured = [
        Measured(candidate.cell.label, result, against, candidate.baseline)
        for candidate, result in zip(candidates, attach(others, results), strict=True)
    ]
    return measured, [finding for cell in measured for finding in findings(cell, gate, level)]


def _compare(
    reference: Cell,
    first: Record,
    pairs: Sequence[tuple[Candidate, Record]],
    gate: GateConfig,
    level: float,
    progress: Progress,
) -> None:
    """Launch until each limit of each cell that launches decide is decided, or until the last look."""
    results = Path(reference.config.results_dir)
    by_folder = {results / record.record_id: candidate for candidate, record in pairs if record.status == "ok"}
    has_baseline = any(candidate.baseline is not None for candidate, _ in pairs)
    if not by_folder or not gate.needs_launches(has_baseline):
        return
    limits = {folder: launch_limits(gate, candidate.baseline, level) for folder, candidate in by_folder.items()}

    def is_decided(folder: Path, launches: Sequence[Launch]) -> bool:
        count = len(launches)
        return count >= gate.interim_launches[-1] or (
            count >= gate.interim_launches[0] and all(limit.is_decided(launches) for limit in limits[folder])
        )

    def note(done: int, launches: Sequence[Launch]) -> None:
        slower = {clock: losses(launches, "decode", clock, 0.0) for clock in (Clock.WALL, Clock.CPU)}
        means = ", ".join(
            f"{100 * sum(seen) / len(seen):+.1f} % {clock.said}" for clock, seen in slower.items() if seen
        )
        progress.note(f"launch {done} of at most {gate.interim_launches[-1]}: decode against the reference: {means}")

    progress.note("speed: the cells take turns")
    compare_speed(
        Runner(reference, results / first.record_id),
        [Runner(candidate.cell, folder, candidate.injection) for folder, candidate in by_folder.items()],
        _options(reference, gate, launches=None, most_launches=gate.interim_launches[-1]),
        Clock.WALL,
        note,
        lambda stored: all(is_decided(folder, launches) for folder, launches in stored.items()),
        tick=progress.tick,
    )
