"""Runs every benchmark of a cell under pytest-benchmark.

Its JSON contains the times and, as `extra_info`, the figures.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.execution.worker.plugin import Case
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.tasks.bench import OpenEntry
from runtime_matrix.experiments.tasks.judged import judge_entry
from runtime_matrix.experiments.tasks.sampling import EmptyPartError, sample_parameters
from runtime_matrix.experiments.tasks.task import QualityTask, Scenario


def test_benchmark(
    bench: CellBench, entry: OpenEntry, benchmark: BenchmarkFixture, case: Case, request: pytest.FixtureRequest
) -> None:
    """Run one benchmark of the cell, within pytest-benchmark's timing unless it times its own rounds."""

    def run() -> None:
        if not bench.is_shard:
            case.task.run(bench, entry, case.config, case.point)
            return
        try:
            case.task.respond(bench, entry, case.config, case.point)
        except EmptyPartError as error:
            bench.skip(str(error))

    benchmark.group, benchmark.name = case.task.name, case.id
    try:
        if isinstance(case.task, Scenario) and case.task.times_rounds:
            run()
        else:
            benchmark.pedantic(run, rounds=1)
        if isinstance(case.task, QualityTask) and not bench.is_shard:
            judge_entry(bench, entry, case.task)
    except BaseException:  # pytest-benchmark overlooks a skip and an interrupt, and fails over the missing times
        benchmark.has_error = True
        raise
    if bench.is_shard:
        return
    entry.parameters = {**sample_parameters(case.task, case.config), **entry.parameters}
    benchmark.extra_info |= plain({"benchmark": case.task.name, "parameters": entry.parameters, **entry.figures})
