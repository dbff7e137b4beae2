"""Hand the cell's `batch_size` down to its benchmarks, as their option `batch`."""

from __future__ import annotations

import dataclasses
from typing import Any

from runtime_matrix.experiments.cells.config import BenchmarksConfig, CellConfig
from runtime_matrix.experiments.config.plain_json import JsonObject

_OPTION = "batch"  # of benchmarks: rows, or a tuple of them as an axis of a grid


def with_batch_size(resolved: JsonObject, config: CellConfig) -> JsonObject:
    """Return the configuration with the cell's `batch_size` in each benchmark that has such an option."""
    if config.batch_size is None:
        return resolved
    benchmarks = {
        name: {**resolved["benchmark"][name], _OPTION: [config.batch_size] if _is_axis(options) else config.batch_size}
        for name, options in config.benchmark.options.items()
        if hasattr(options, _OPTION)
    }
    return {**resolved, "benchmark": {**resolved["benchmark"], **benchmarks}}


def with_rows_of(benchmarks: BenchmarksConfig, rows: int) -> BenchmarksConfig:
    """Return the options of the benchmarks with batches of `rows` rows."""
    changed = {
        name: dataclasses.replace(options, **{_OPTION: (rows,) if _is_axis(options) else rows})
        if hasattr(options, _OPTION)
        else options
        for name, options in benchmarks.options.items()
    }
    return dataclasses.replace(benchmarks, options=changed)


def _is_axis(options: Any) -> bool:
    """Return whether the option holds several sizes."""
    return isinstance(getattr(options, _OPTION), tuple)
