"""Hand the cell's `limit` or `sample` down to its benchmarks, as options of theirs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.sampling import SampleOptions
from runtime_matrix.experiments.tasks.task import QualityTask, Task


def with_chosen_items(resolved: JsonObject, config: CellConfig) -> JsonObject:
    """Return the configuration with `limit` or `sample` in each benchmark that has such an option.

    A smaller limit and a sample of the benchmark's own stay. UserError for both a limit and a sample, and for those
    that a benchmark, or every one, would ignore.
    """
    given = [f"{name}={value}" for name, value in (("limit", config.limit), ("sample", config.sample)) if value]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: leave out one of them")
    changes = {task.name: _choice(task, options, config) for task, options in config.benchmark.items()}
    if given and not any(changes.values()):
        raise UserError(f"{given[0]} would be ignored: none of {', '.join(changes)} has items")
    benchmarks = {name: {**resolved["benchmark"][name], **change} for name, change in changes.items() if change}
    return {**resolved, "benchmark": {**resolved["benchmark"], **benchmarks}} if benchmarks else resolved


def _choice(task: Task[Any], options: Any, config: CellConfig) -> JsonObject:
    """Return the options of a benchmark that choose its items."""
    key, change = f"benchmark.{task.name}", JsonObject()
    if getattr(options, "part", None) is not None and isinstance(options, SampleOptions):
        raise UserError(f"{key}.part cannot be set: shards=N deals the items, and shard=K computes one part")
    limit, sample = getattr(options, "limit", None), None
    if config.limit is not None and any(part.name == "limit" for part in fields(options)):
        limit = min(config.limit, limit or config.limit)
        change["limit"] = limit
    if isinstance(options, SampleOptions):
        sample = options.sample or config.sample
        change |= {} if sample is None else {"sample": sample, "sample_seed": config.seed}
    elif config.sample is not None and isinstance(task, QualityTask) and task.score is not None:
        raise UserError(
            f"sample={config.sample} would be ignored by {key}, whose options are no SampleOptions: leave it out, or "
            "choose its items with options of its own"
        )
    if limit is not None and sample is not None:
        raise UserError(f"sample={sample} and limit={limit} of {key} exclude each other: set one of them to null")
    return change
