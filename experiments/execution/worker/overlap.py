"""The test items of a cell's benchmarks against the calibration text and, where it is known, the training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.config import BenchmarksConfig
from runtime_matrix.experiments.cells.data import calibration_path
from runtime_matrix.experiments.records.schema import Overlap, OverlapShare
from runtime_matrix.experiments.tasks import overlap
from runtime_matrix.experiments.tasks.task import QualityTask


def overlap_of(cell: Cell) -> Overlap:
    """Return for each benchmark of text how many items it has, and which share of them each text holds.

    The share of the training text is None for a model whose training text nobody has here. It covers all items of a
    benchmark's bundled data, whatever its limit.
    """
    sets = texts_of(cell.config.benchmark)
    calibration = calibration_path(cell.config.calibration.data)
    seen = overlap.seen_of([calibration.read_text(encoding="utf-8", errors="replace")] if sets else [])
    known = overlap.training_shares(cell.facts.digest)
    shares = {
        name: OverlapShare(
            items=len(found.items),
            calibration=overlap.share(found.items, seen),
            training=known.get(name) if found.are_bundled else None,
        )
        for name, found in sets.items()
    }
    return Overlap(benchmarks=shares, words=overlap.WORDS, calibration_data=cell.config.calibration.data)


@dataclass(frozen=True)
class TestSet:
    """The test items of a benchmark, or its few-shot examples, as texts."""

    items: Sequence[overlap.Item]
    are_bundled: bool


def texts_of(chosen: BenchmarksConfig) -> dict[str, TestSet]:
    """Return the test items of each benchmark of text that is chosen; few-shot examples stand apart."""
    return {
        name: TestSet(items, config.data == "bundled")
        for task, config in chosen.items()
        if isinstance(task, QualityTask)
        for name, items in task.texts(config).items()
    }
