"""A recorded grid as material for replays: what a trial of each cell would have shown at a level, and what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from runtime_matrix.experiments.advice.choose import GIB, Constraints
from runtime_matrix.experiments.analysis.columns import SCORES, is_alarm
from runtime_matrix.experiments.analysis.ranking import PEAK, Bounds, bounds
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.ratios import Clock, SideName, interval_of, log_ratios, seconds
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.searching.observed import GOAL_PHASES, LEVEL, Trial, gains_of, row_of
from runtime_matrix.experiments.searching.policy import Seen
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import loss

Pairs = list[tuple[float, float]]  # scores of the cell and of the reference, by item


@dataclass(frozen=True)
class GridCell:
    """A cell of the grid."""

    name: str
    options: dict[str, str]  # runtime, batch and threads: the dimensions of the space
    is_reference: bool
    launches: list[Launch]
    peak: Bounds | None  # bytes
    scores: dict[str, Pairs]  # by benchmark
    job_cpu_s: float  # of its processes but for the items
    item_cpu_s: float  # of all items
    launch_cpu_s: float  # of one launch

    def cost_s(self, items: int | None, known: int, launches: int | None) -> float:
        """Return the CPU seconds of a trial with so many items, `known` of which are cached; None: all."""
        number = max((len(pairs) for pairs in self.scores.values()), default=0)
        new = max(0, min(number, number if items is None else items) - known)
        count = len(self.launches) if launches is None else min(launches, len(self.launches))
        return self.job_cpu_s + self.item_cpu_s * new / max(1, number) + self.launch_cpu_s * count

    def accuracy(self, items: int | None) -> list[Bounds]:
        """Return the kept share of the reference's score in each benchmark, from its first items."""
        if self.is_reference:
            return [(1.0, 1.0, 1.0)]
        shares = []
        for pairs in self.scores.values():
            mine, reference = zip(*pairs[:items], strict=True)
            interval, base = loss(mine, reference), fmean(reference)
            if interval is None or base == 0:
                return [(-math.inf, 0.0, math.inf)]
            shares.append((1 - interval.high / base, 1 - interval.estimate / base, 1 - interval.low / base))
        return shares or [(-math.inf, 0.0, math.inf)]

    def ttft_s(self, launches: Sequence[Launch]) -> Bounds | None:
        """Return the seconds to the first token."""
        side: SideName = "reference" if self.is_reference else "candidate"
        interval = interval_of(seconds(launches, "prefill", side), LEVEL)
        return None if interval is None else (interval.low, interval.estimate, interval.high)


def grid_of(folder: Path) -> list[GridCell]:
    """Return the measured cells of the grid, the reference first; UserError if there is none."""
    results = {result.record.config_hash: result for result in read(folder)[0] if result.record.status == "ok"}
    references = [result for result in results.values() if result.record.is_reference]
    if not references:
        raise UserError(f"{folder} has no measured reference: python -m experiments.run experiment=search_grid")
    reference = references[0]
    others = [result for result in results.values() if result is not reference and result.speed is not None]
    cells = [_cell(result, reference) for result in [reference, *others]]
    return [cell for cell in cells if cell is not None]


def observed(cells: Sequence[GridCell], request: Constraints, items: int | None, launches: int | None) -> list[Seen]:
    """Return what trials with so many items and launches show of the cells."""
    if request.goal == "memory":
        gains = {cell.name: _memory_gain(cell) for cell in cells}
    else:
        phase = GOAL_PHASES[request.goal]
        gains = gains_of(
            {cell.name: [-v for v in log_ratios(cell.launches[:launches], phase, Clock.WALL)] for cell in cells}
        )
        gains |= {cell.name: Interval(0.0, 0.0, 0.0, LEVEL) for cell in cells if cell.is_reference}
    return [Seen(cell.name, gains[cell.name], feasible(cell, request, items, launches), "breaks") for cell in cells]


def feasible(cell: GridCell, request: Constraints, items: int | None, launches: int | None) -> bool | None:
    """Return whether the bounds show that a cell meets the constraints (True) or breaks one (False)."""
    checks: list[bool | None] = []
    if request.min_accuracy is not None:
        checks += [_within((-high, -value, -low), -request.min_accuracy) for low, value, high in cell.accuracy(items)]
    if request.max_memory_gib is not None:
        checks.append(_within(cell.peak, request.max_memory_gib * GIB))
    if request.max_ttft_s is not None:
        checks.append(_within(cell.ttft_s(cell.launches[:launches]), request.max_ttft_s))
    return False if False in checks else None if None in checks else True


def breaks(cell: GridCell, request: Constraints) -> bool:
    """Return whether a cell breaks a constraint by the estimates of its whole record."""
    ttft, accuracy = cell.ttft_s(cell.launches), min(value for _, value, _ in cell.accuracy(None))
    return bool(
        (request.min_accuracy is not None and accuracy < request.min_accuracy)
        or (request.max_memory_gib is not None and cell.peak and cell.peak[1] > request.max_memory_gib * GIB)
        or (request.max_ttft_s is not None and ttft and ttft[1] > request.max_ttft_s)
    )


def _within(ends: Bounds | None, limit: float) -> bool | None:
    if ends is None:
        return None
    return True if ends[2] <= limit else False if ends[0] > limit else None


def _memory_gain(cell: GridCell) -> Interval | None:
    if cell.peak is None or cell.peak[0] <= 0:
        return None
    low, value, high = (-math.log(end) for end in reversed(cell.peak))
    return Interval(value, low, high, LEVEL)


def _cell(result: Result, reference: Result) -> GridCell | None:
    """Return a cell of the grid; None for one with wrong outputs, UserError if its CPU seconds are not recorded."""
    record, row = result.record, row_of(Trial(result, reference))
    if is_alarm(row):
        return None
    launches = result.speed.launches if result.speed is not None else []
    jobs = [value for value in record.jobs_cpu_s.values() if value is not None]
    sides = [launch.process_cpu_s for launch in launches if launch.process_cpu_s is not None]
    spent = [value for side in sides if (value := side.reference if record.is_reference else side.candidate)]
    if not jobs or len(spent) < len(launches):
        raise UserError(f"{record.record_id} does not have the CPU seconds of its processes: measure it again")
    scores = {name: _pairs(result, reference, name) for name in _scored(result)}
    durations = {entry.benchmark: entry.duration_s or 0.0 for entry in record.benchmarks}
    share = sum(durations.get(name, 0.0) for name in scores) / max(record.jobs.get("measure", 0.0), 1e-9)
    item_cpu_s = min(1.0, share) * (record.jobs_cpu_s.get("measure") or 0.0)
    threads, batch = str(record.hw.threads), str(record.config.get("batch_size"))
    return GridCell(
        name=f"{record.runtime.name} batch_size={batch} threads={threads} {record.config_hash[:4]}",
        options={"runtime": record.runtime.name, "batch_size": batch, "threads": threads},
        is_reference=result is reference,
        launches=launches,
        peak=bounds(row, PEAK),
        scores=scores,
        job_cpu_s=sum(jobs) - item_cpu_s,
        item_cpu_s=item_cpu_s,
        launch_cpu_s=fmean(spent) if spent else 0.0,
    )


def _scored(result: Result) -> list[str]:
    shares = {score.prefix: score for score in SCORES.values() if not score.kind.is_ratio}
    return [entry.benchmark for entry in result.record.benchmarks if entry.items_file and entry.benchmark in shares]


def _pairs(result: Result, reference: Result, benchmark: str) -> Pairs:
    """Return the scores of the items that both answered, in the reference's order."""
    mine, theirs = (_scores(one, benchmark) for one in (result, reference))
    return [(mine[name], theirs[name]) for name in theirs if name in mine]


def _scores(result: Result, benchmark: str) -> dict[str, float]:
    entry = result.record.entries()[benchmark]
    lines = (result.folder / str(entry.items_file)).read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    return {str(item["id"]): float(item["is_right"]) for item in items if item.get("is_right") is not None}
