"""The parts of a cell that its shards compute: which benchmarks, which items, and in which folders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.tasks.sampling import Part, is_shardable
from runtime_matrix.experiments.tasks.task import Task

FOLDER = "shards"  # in results_dir
KEPT_FILE = "kept.sqlite"  # responses, observed responses and verdicts
SHARD_FILE = "shard.json"


@dataclass(frozen=True)
class ShardFiles:
    """The files of a cell's shards: a shard writes its own, and the cell that merges reads those of all."""

    own: Path | None
    others: tuple[Path, ...] = ()


def shard_folder(results: Path, cell: Cell, index: int, count: int) -> Path:
    """Return the folder of a shard. It is the same on every machine and in every run of the same options and code."""
    return results / FOLDER / cell_key(cell) / f"{index}-of-{count}"


def cell_key(cell: Cell) -> str:
    """Return the name of the folder of a cell's shards: a digest of options and model, and one of the code."""
    code = json.dumps(to_plain(cell.code), sort_keys=True)
    return f"{cell.config_hash}-{hashlib.sha256(code.encode()).hexdigest()[:8]}"


def shardable(config: CellConfig) -> list[tuple[Task[Any], Any]]:
    """Return the benchmarks, with their options, whose items can be dealt to shards."""
    return [pair for pair in config.benchmark.items() if is_shardable(*pair)]


def is_merged(cell: Cell) -> bool:
    """Return whether the responses of the cell's benchmarks come from shards."""
    return cell.config.shards > 1 and cell.config.shard is None


def is_shard(cell: Cell) -> bool:
    """Return whether the cell is that of a shard, see `shard_cell`."""
    return any(getattr(options, "part", None) is not None for options in cell.config.benchmark.options.values())


def shard_cell(cell: Cell, index: int, threads: int) -> Cell:
    """Return what a shard of the cell runs: its part of the items, without agreement check and judge."""
    config, count = cell.config, cell.config.shards
    part = Part(index, count)
    chosen = {task.name: dataclasses.replace(options, part=part) for task, options in shardable(config)}
    workers = config.sandbox.workers or threads
    changed = dataclasses.replace(
        config,
        hw=dataclasses.replace(config.hw, threads=threads),
        benchmark=dataclasses.replace(config.benchmark, options=chosen),
        agreement=dataclasses.replace(config.agreement, enabled=False),
        judge=JudgeChoice(),
        sandbox=dataclasses.replace(config.sandbox, workers=workers),
        shard=index,
    )
    return dataclasses.replace(cell, config=changed)


def shard_files(cell: Cell, folder: Path) -> ShardFiles | None:
    """Return the files that a process reads or writes in `folder`; None for a cell without shards."""
    if is_shard(cell):
        return ShardFiles(folder / KEPT_FILE)
    if is_merged(cell):
        folders = shard_folders(Path(cell.config.results_dir), cell)
        return ShardFiles(None, tuple(shard / KEPT_FILE for shard in folders))
    return None


def shard_folders(results: Path, cell: Cell) -> list[Path]:
    """Return the folders of all shards of a cell."""
    count = cell.config.shards
    return [shard_folder(results, cell, index, count) for index in range(count)]
