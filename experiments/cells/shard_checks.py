"""Refuse shards that would have nothing to do, and options that shards would ignore."""

from __future__ import annotations

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.sampling import is_shardable
from runtime_matrix.experiments.tasks.task import Scenario


def check_shards(config: CellConfig) -> None:
    """Check what needs no file: the numbers, and that a benchmark has items that can be dealt. Raises UserError."""
    count, index = config.shards, config.shard
    if index is not None and (index >= count or count == 1):
        remedy = f"give 0 to {count - 1}" if count > 1 else "add shards=N"
        raise UserError(f"shard={index} is not one of shards={count}, which count from 0: {remedy}")
    devices = config.hw.devices
    if devices is not None and (count == 1 or devices > count):
        raise UserError(
            f"hw.devices={devices} binds each shard to one device, and shards={count}: set shards={max(2, devices)} or "
            "more, or leave it out"
        )
    if count == 1:
        return
    if config.batch is not None:
        raise UserError(
            f"batch={config.batch} would give each of shards={count} the memory that is free for one process: use "
            "batch=null"
        )
    if config.responses.mode == "use":
        raise UserError(
            f"responses.mode=use would be ignored: each of shards={count} keeps its responses in a file of its own; "
            "use responses.mode=keep, and resume=true to continue"
        )
    if any(is_shardable(*pair) for pair in config.benchmark.items()):
        return
    names = ", ".join(config.benchmark.chosen())
    are = "is" if len(config.benchmark.chosen()) == 1 else "are"
    is_timed = all(isinstance(task, Scenario) for task, _ in config.benchmark.items())
    why = "timed" if is_timed else "timed, or without items,"
    raise UserError(
        f"{names} {are} {why} and never sharded: leave out shards={count}, or add a benchmark with items, such as "
        "multiple_choice"
    )


def check_items(config: CellConfig) -> None:
    """Refuse more shards than any benchmark has items. Raises UserError."""
    if config.shards == 1:
        return
    counts = {
        task.name: task.count(options)  # type: ignore[attr-defined]  # those with items are quality tasks
        for task, options in config.benchmark.items()
        if is_shardable(task, options)
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if len(known) < len(counts) or max(known.values()) >= config.shards:
        return
    name = max(known, key=lambda name: known[name])
    raise UserError(f"shards={config.shards} are more than the {known[name]} items of {name}: use at most that many")
