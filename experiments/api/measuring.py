"""Sweeps from Python: the same cells, processes and records as `python -m experiments.run -m`."""

from __future__ import annotations

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.api.matrix import Matrix
from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.overrides import expand
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.sweeps.sweep import sweep


def measure(*overrides: str) -> Matrix:
    """Measure one cell, or a sweep over all values separated by commas, each cell in its own process.

    `overrides` are those of `python -m experiments.run`, such as "runtime=eager,onnxruntime" and
    "benchmark=[latency,memory]"; records go to `results_dir`. A failed cell is a row with its reason. Raises
    UserError for a mistake in the overrides, before anything is measured.
    """
    return Matrix(rows(sweep(_cells(overrides)).results, all=True))


def _cells(overrides: tuple[str, ...]) -> list[Cell]:
    return [plan(compose(job), recorded_command("run", job)) for job in expand(overrides)]
