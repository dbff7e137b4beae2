"""Fixtures of the benchmarks: the cell of the worker, or one composed from the options of this pytest command."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.execution.worker.plugin import ENTRY, PLUGIN, Case, CellPlugin, cases
from runtime_matrix.experiments.tasks.bench import OpenEntry


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name the cell."""
    group = parser.getgroup("runtime-matrix")
    for name in ("runtime", "model", "hw"):
        group.addoption(f"--{name}", help=f"the {name} to measure, as in `python -m experiments.run {name}=…`")
    group.addoption("--set", action="append", default=[], metavar="KEY=VALUE", help="any other override")


def pytest_configure(config: pytest.Config) -> None:
    """Plan the cell that the options name, unless a worker has registered its plugin already."""
    if PLUGIN in config.stash:
        return
    given = [f"{name}={config.getoption(name)}" for name in ("runtime", "model", "hw") if config.getoption(name)]
    try:
        cell = plan(compose([*given, *config.getoption("set")]), "pytest experiments/benchmarks")
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    folder = Path(tempfile.mkdtemp(prefix="runtime-matrix-"))
    # Registered first, so that it runs last: the plugin's files are still open.
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    plugin = CellPlugin(cell, folder, None)
    config.add_cleanup(plugin.close)
    config.pluginmanager.register(plugin, "cell")


@pytest.fixture
def bench(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, case: Case) -> Iterator[CellBench]:
    """Yield the cell's bench with the timer of this test."""
    bench = request.config.stash[PLUGIN].bench(case.task.name)
    bench.timer, bench.running = benchmark, case.id
    yield bench
    if bench.is_loaded:
        bench.face.synchronize()


@pytest.fixture
def entry(request: pytest.FixtureRequest, case: Case) -> OpenEntry:
    """What this grid point writes its samples and figures into."""
    entry = OpenEntry(case.task.name, case.point)
    request.node.stash[ENTRY] = entry
    return entry


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run one test per benchmark and grid point of the cell."""
    all_cases = cases(metafunc.config.stash[PLUGIN].cell)
    metafunc.parametrize("case", all_cases, ids=[case.id for case in all_cases])
