"""Compute one shard of each cell of a sweep and stop: `shard=K`, for a scheduler of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.records.schema import FAILED
from runtime_matrix.experiments.records.sharding import ShardRecord
from runtime_matrix.experiments.records.store import check_writable
from runtime_matrix.experiments.sweeps.shards import run_shard


def run_one_shard(cells: Sequence[Cell]) -> int:
    """Compute the shard that each cell names, continuing what its folder holds, and return the exit code.

    UserError for an unwritable folder, and for a shard that another process computes.
    """
    config = cells[0].config
    check_writable(Path(config.results_dir))
    check_writable(cells[0].artifacts, "artifacts_dir")
    model_types, threads = {str(cell.facts.model_type) for cell in cells}, max(cell.threads for cell in cells)
    records: list[ShardRecord] = []
    children = Children(config.launch, model_types, threads)
    with closing(children), Progress(len(cells), config.progress) as progress:
        for cell in cells:
            assert cell.config.shard is not None
            progress.start(cell.label)
            record = run_shard(cell, cell.config.shard, cell.config.shards, children, progress)
            progress.finish(record.status, record.reason)
            records.append(record)
    for record in records:
        print(f"shard {record.index} of {record.count}: {record.status}, {sum(record.items.values())} items")
    print(f"when all are there, the same command with resume=true and without shard={config.shard} merges them")
    statuses = {record.status for record in records}
    if statuses & FAILED:
        return 1
    return 0 if "ok" in statuses else 3
