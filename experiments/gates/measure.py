"""A gate's run: measure the cells, launch until each limit is decided, judge, and measure a fail once more."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.injection import CONFIRM, Injection
from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.comparison.speed import Launches, compare_speed
from runtime_matrix.experiments.comparison.workers import Runner
from runtime_matrix.experiments.config import ComparisonConfig
from runtime_matrix.experiments.gates.baseline import Baseline, check_baseline
from runtime_matrix.experiments.gates.findings import Finding, Measured
from runtime_matrix.experiments.gates.judge import findings, overall
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.speed_limits import losses, speed_limits
from runtime_matrix.experiments.measurement.sequential import Verdict
from runtime_matrix.experiments.progress import Progress
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.speed import Clock
from runtime_matrix.experiments.records.store import attach
from runtime_matrix.experiments.sweep import measure_cells

_LONG_TOKENS = 128  # new ones of a long text, where the comparison's options say nothing


@dataclass(frozen=True)
class Candidate:
    cell: Cell
    baseline: Baseline | None
    injection: Injection | None = None  # a known slowdown, to test the gate itself


@dataclass(frozen=True)
class Judgement:
    findings: list[Finding]
    measured: list[Measured]
    was_repeated: bool

    @property
    def verdict(self) -> Verdict:
        return overall(self.findings)


def run_gate(reference: Cell, candidates: Sequence[Candidate], gate: GateConfig, progress: Progress) -> Judgement:
    """Measure and judge; UserError for a baseline that cannot be compared with."""
    found = environment()
    for one in candidates:
        if one.baseline is not None:
            check_baseline(one.baseline, one.cell, found, list(gate.baseline.accuracy))
    level = gate.level(len(candidates), any(one.baseline is not None for one in candidates))
    measured, first = _once(reference, candidates, gate, level, progress)
    failed = {finding.cell for finding in first if finding.verdict == "fail"}
    if not failed or not gate.confirm:
        return Judgement(first, measured, False)
    progress.note("a limit failed: measured once more, afresh")
    again = [one for one in candidates if one.cell.label in failed]
    if gate.confirm_rebuilds:
        reference, again = _rebuilt(reference), [replace(one, cell=_rebuilt(one.cell)) for one in again]
    try:
        repeated, second = _once(reference, again, gate, level, progress)
    finally:
        if gate.confirm_rebuilds:
            for cell in (reference, *(one.cell for one in again)):
                shutil.rmtree(cell.artifacts, ignore_errors=True)
    labels = {one.label for one in repeated}
    kept = [one for one in measured if one.label not in labels]
    return Judgement(confirmed(first, second), [*kept, *repeated], True)


def _rebuilt(cell: Cell) -> Cell:
    """Return the cell with a folder of artifacts that is empty: what it needs is built again."""
    return replace(cell, artifacts=cell.artifacts.with_name(f"{cell.artifacts.name}{CONFIRM}{secrets.token_hex(3)}"))


def measure_for_baseline(
    reference: Cell, cells: Sequence[Cell], gate: GateConfig, progress: Progress
) -> list[Measured]:
    """Measure all that a baseline keeps, with as many launches as the last look of the gate."""
    results = Path(reference.config.results_dir)
    first, *others = measure_cells([reference, *cells], progress)
    home = results / first["record_id"]
    wanted = gate.baseline.speedup or gate.baseline.cpu_speedup or gate.limits_peaks(True)
    if first["status"] == "ok" and wanted:
        folders = [results / record["record_id"] for record in others]
        ready = [one for one in zip(cells, folders, others, strict=True) if one[2]["status"] == "ok"]
        compare_speed(
            Runner(reference, home),
            [Runner(cell, folder) for cell, folder, _ in ready],
            _options(reference, gate, launches=gate.looks[-1]),
            Clock.WALL,
            lambda done, launches: progress.note(f"launch {done} of {gate.looks[-1]}"),
            tick=progress.tick,
        )
    elif first["status"] != "ok":
        others = [
            {**record, "status": first["status"], "reason": f"the reference: {first['reason']}"} for record in others
        ]
    attached = attach(others, results)
    return [
        Measured(cell.label, record, results / record["record_id"], first, home, None)
        for cell, record in zip(cells, attached, strict=True)
    ]


def _options(reference: Cell, gate: GateConfig, **options: Any) -> ComparisonConfig:
    """Return how launches are run: with those rounds that the gate's limits are of."""
    asked, wanted = reference.config.comparison, {*gate.reference.speedup, *gate.baseline.speedup}
    room = (reference.facts.max_length or _LONG_TOKENS + max(asked.prompt_tokens)) - max(asked.prompt_tokens)
    if "long_decode" in wanted:
        options["long_new_tokens"] = asked.long_new_tokens or min(_LONG_TOKENS, room)
    options["batched"] = asked.batched if "throughput" in wanted else None
    return replace(asked, **options)


def confirmed(first: Sequence[Finding], second: Sequence[Finding]) -> list[Finding]:
    """Return the findings, each fail replaced by what its repetition found."""
    again = {(finding.cell, finding.name): finding for finding in second}
    found = []
    for one in first:
        repetition = again.get((one.cell, one.name))
        if one.verdict == "fail" and repetition is not None:
            how = "failed twice" if repetition.verdict == "fail" else "failed once, and not in a fresh repetition"
            one = replace(repetition, history=f"{how}; first: {one.figures}")
        elif one.verdict == "fail" and one.name == "cell":
            one = replace(one, verdict="inconclusive", history="it was measured when repeated")
        found.append(one)
    names = {(finding.cell, finding.name) for finding in found}
    return found + [finding for finding in second if (finding.cell, finding.name) not in names]


def _once(
    reference: Cell, candidates: Sequence[Candidate], gate: GateConfig, level: float, progress: Progress
) -> tuple[list[Measured], list[Finding]]:
    results = Path(reference.config.results_dir)
    progress.expect(1 + len(candidates))
    first, *others = measure_cells([reference, *(one.cell for one in candidates)], progress)
    if first["status"] != "ok":
        message = f"the reference was not measured: {first['status']}: {first['reason']}"
        missing = [Finding(one.cell.label, "cell", "inconclusive", message) for one in candidates]
        return [], missing
    _compare(reference, first, list(zip(candidates, others, strict=True)), gate, level, progress)
    home = results / first["record_id"]
    measured = [
        Measured(one.cell.label, record, results / record["record_id"], first, home, one.baseline)
        for one, record in zip(candidates, attach(others, results), strict=True)
    ]
    return measured, [finding for one in measured for finding in findings(one, gate, level)]


def _compare(
    reference: Cell,
    first: dict[str, Any],
    pairs: Sequence[tuple[Candidate, dict[str, Any]]],
    gate: GateConfig,
    level: float,
    progress: Progress,
) -> None:
    """Launch until each speed limit of each cell is decided, or until the last look."""
    results = Path(reference.config.results_dir)
    by_folder = {results / record["record_id"]: one for one, record in pairs if record["status"] == "ok"}
    limits = {folder: speed_limits(gate, one.baseline, level) for folder, one in by_folder.items()}
    if not any(limits.values()) and not gate.limits_peaks(any(one.baseline is not None for one, _ in pairs)):
        return

    def is_decided(folder: Path, launches: Launches) -> bool:
        count = len(launches)
        return count >= gate.looks[-1] or (
            count >= gate.looks[0]
            and all(
                limit.look(launches).verdict != "inconclusive" for limit in limits[folder] if limit.applies(launches)
            )
        )

    def note(done: int, launches: Launches) -> None:
        slower = {clock: losses(launches, "decode", clock, 0.0) for clock in (Clock.WALL, Clock.CPU)}
        means = ", ".join(
            f"{100 * sum(seen) / len(seen):+.1f} % {clock.said}" for clock, seen in slower.items() if seen
        )
        progress.note(f"launch {done} of at most {gate.looks[-1]}: decode against the reference: {means}")

    progress.note("speed: the cells take turns")
    compare_speed(
        Runner(reference, results / first["record_id"]),
        [Runner(one.cell, folder, one.injection) for folder, one in by_folder.items()],
        _options(reference, gate, launches=None, most_launches=gate.looks[-1]),
        Clock.WALL,
        note,
        lambda stored: all(is_decided(folder, launches) for folder, launches in stored.items()),
        tick=progress.tick,
    )
