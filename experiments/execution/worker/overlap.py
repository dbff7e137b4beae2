"""Compare the test items of a cell's benchmarks with the calibration text and, if known, the training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.config import BenchmarksConfig
from runtime_matrix.experiments.cells.data import calibration_path
from runtime_matrix.experiments.records.schema import Overlap, OverlapShare
from runtime_matrix.experiments.tasks import overlap
from runtime_matrix.experiments.tasks.task import QualityTask, Texts


def overlap_of(cell: Cell) -> Overlap:
    """Return for each benchmark of text its number of items, and the share of them that each text contains.

    The share of the training text is None if that text is unknown. It covers all items of a benchmark's bundled data,
    regardless of its `limit`.
    """
    sets = texts_of(cell.config.benchmark)
    calibration = calibration_path(cell.config.calibration.data)
    seen = overlap.seen_of([calibration.read_text(encoding="utf-8", errors="replace")] if sets else [])
    training = overlap.training_shares(cell.facts.digest)
    shares = {
        name: OverlapShare(
            items=len(test_set.items),
            calibration=overlap.share(test_set.items, seen),
            training=training.get(name) if test_set.are_bundled else None,
        )
        for name, test_set in sets.items()
    }
    return Overlap(benchmarks=shares, words=overlap.WORDS, calibration_data=cell.config.calibration.data)


@dataclass(frozen=True)
class TestSet:
    """The test items of a benchmark, or its few-shot examples, as texts."""

    items: Sequence[Texts]
    are_bundled: bool


def texts_of(chosen: BenchmarksConfig) -> dict[str, TestSet]:
    """Return the test items of each chosen benchmark of text; few-shot examples are separate sets."""
    return {
        name: TestSet(items, config.data == "bundled")
        for task, config in chosen.items()
        if isinstance(task, QualityTask)
        for name, items in task.texts(config).items()
    }
