"""A gate's run: measure the cells, launch until each limit is decided, judge, and repeat a fail."""

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
from runtime_matrix.experiments.records.ratios import DETECTION, SERVING_PHASES, Clock
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import attach
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.injection import CONFIRM, Injection
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner

_OBSERVED = 16  # responses per round of detection, unless comparison.observed_responses is set
_CONCURRENCY = 4  # requests in flight under load, unless comparison.serving_concurrency is set
_LONG_TOKENS = 128  # new tokens of a long text, unless comparison.long_new_tokens is set


@dataclass(frozen=True)
class Candidate:
    """A cell to judge, with its baseline if there is one."""

    cell: Cell
    baseline: Baseline | None
    injection: Injection | None = None  # a known slowdown, to test the gate itself


@dataclass(frozen=True)
class GateResult:
    """The findings of a run, and the measured cells behind them."""

    findings: list[LimitResult]
    measured: list[Measured]
    was_repeated: bool

    @property
    def verdict(self) -> Verdict:
        """Return fail if any limit failed, pass if all passed, else inconclusive."""
        return overall(self.findings)


def run_gate(reference: Cell, candidates: Sequence[Candidate], gate: GateConfig, progress: Progress) -> GateResult:
    """Measure and judge the candidates. UserError for a baseline that is not comparable."""
    local_environment = environment()
    for candidate in candidates:
        if candidate.baseline is not None:
            check_baseline(candidate.baseline, candidate.cell, local_environment, gate)
    level = gate.level(len(candidates), any(candidate.baseline is not None for candidate in candidates))
    measured, first = _once(reference, candidates, gate, level, progress)
    failed = {finding.cell for finding in first if finding.verdict == "fail"}
    if not failed or not gate.confirm:
        return GateResult(first, measured, False)
    progress.note("a limit failed: measuring again")
    repeated_candidates = [candidate for candidate in candidates if candidate.cell.label in failed]
    if gate.confirm_rebuilds:
        reference = _rebuilt(reference)
        repeated_candidates = [replace(candidate, cell=_rebuilt(candidate.cell)) for candidate in repeated_candidates]
    try:
        repeated, second = _once(reference, repeated_candidates, gate, level, progress)
    finally:
        if gate.confirm_rebuilds:
            for cell in (reference, *(candidate.cell for candidate in repeated_candidates)):
                shutil.rmtree(cell.artifacts, ignore_errors=True)
    labels = {cell.label for cell in repeated}
    unrepeated = [cell for cell in measured if cell.label not in labels]
    return GateResult(confirmed(first, second), [*unrepeated, *repeated], True)


def _rebuilt(cell: Cell) -> Cell:
    """Return the cell with an empty artifacts folder, so that its artifacts are built again."""
    return replace(cell, artifacts=cell.artifacts.with_name(f"{cell.artifacts.name}{CONFIRM}{secrets.token_hex(3)}"))


def measure_for_baseline(
    reference: Cell, cells: Sequence[Cell], gate: GateConfig, progress: Progress
) -> list[Measured]:
    """Measure all parts of a baseline, with the gate's maximum number of launches."""
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
    """Return the options of launches, with the rounds that the gate's limits need."""
    comparison = reference.config.comparison
    phases = {phase for limits, value in gate.chosen(has_baseline=True) for phase in limits.phases(value)}
    capacity = (reference.facts.max_length or _LONG_TOKENS + max(comparison.prompt_tokens)) - max(
        comparison.prompt_tokens
    )
    if "long_decode" in phases:
        options["long_new_tokens"] = comparison.long_new_tokens or min(_LONG_TOKENS, capacity)
    options["batched"] = comparison.batched if "throughput" in phases else None
    is_served = any(phase in SERVING_PHASES for phase in phases)
    options["observed_responses"] = (comparison.observed_responses or _OBSERVED) if DETECTION in phases else None
    options["serving_concurrency"] = (comparison.serving_concurrency or _CONCURRENCY) if is_served else None
    return replace(comparison, **options)


def confirmed(first: Sequence[LimitResult], second: Sequence[LimitResult]) -> list[LimitResult]:
    """Return the findings, with each fail replaced by the finding of its repetition."""
    repetitions = {(finding.cell, finding.name): finding for finding in second}
    results = [_repeated(finding, repetitions.get((finding.cell, finding.name))) for finding in first]
    names = {(finding.cell, finding.name) for finding in results}
    return results + [finding for finding in second if (finding.cell, finding.name) not in names]


def _repeated(finding: LimitResult, repetition: LimitResult | None) -> LimitResult:
    if finding.verdict == "fail" and repetition is not None:
        outcome = "failed twice" if repetition.verdict == "fail" else "failed once, but not when repeated"
        return replace(repetition, history=f"{outcome}; first: {finding.figures}")
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
    """Launch until every limit that needs launches is decided for every cell, or the maximum is reached."""
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
            f"{100 * sum(seen) / len(seen):+.1f} % {clock.phrase}" for clock, seen in slower.items() if seen
        )
        progress.note(f"launch {done} of at most {gate.interim_launches[-1]}: decode against the reference: {means}")

    progress.note("speed: the cells are timed in turns")
    compare_speed(
        Runner(reference, results / first.record_id),
        [Runner(candidate.cell, folder, candidate.injection) for folder, candidate in by_folder.items()],
        _options(reference, gate, launches=None, most_launches=gate.interim_launches[-1]),
        Clock.WALL,
        note,
        lambda stored: all(is_decided(folder, launches) for folder, launches in stored.items()),
        tick=progress.tick,
    )
