"""The import graph points one way, and only configuration names a concrete runtime."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "runtimes": ("experiments", "hydra", "omegaconf"),
    "experiments/core": ("experiments.tasks", "experiments.measurement", "experiments.records", "runtimes.engines"),
    "experiments/tasks": (
        "experiments.cells",
        "experiments.benchmarks",
        "experiments.views",
        "runtimes.engines",
        "hydra",
    ),
    "experiments/measurement": ("experiments.core", "experiments.tasks", "experiments.records", "runtimes", "torch"),
    "experiments/records": ("experiments.core", "experiments.cells", "runtimes", "torch", "hydra", "omegaconf"),
    "experiments/benchmarks": ("runtimes.engines", "hydra", "omegaconf"),
    "experiments/cells": ("hydra", "omegaconf"),
    "experiments/views": ("experiments.core", "experiments.cells", "runtimes", "torch", "hydra", "omegaconf"),
    "experiments/advice": ("experiments.core", "experiments.cells", "runtimes", "torch", "hydra", "omegaconf"),
    "experiments/monitoring": ("experiments.core", "experiments.cells", "runtimes", "torch", "hydra", "omegaconf"),
}
ALLOWED = {
    ("experiments/execution/prefork_imports.py", "runtimes.engines.eager"),  # imported ahead of time, never named
    ("experiments/evaluation/agreement.py", "experiments.records.store"),
    ("experiments/evaluation/agreement.py", "experiments.records.store.write_atomic"),
    ("experiments/validation/tasks/ablation.py", "experiments.validation.ablation"),
    ("experiments/validation/tasks/ablation.py", "experiments.validation.ablation.Switches"),
    ("experiments/validation/tasks/ablation.py", "experiments.validation.ablation.write_table"),
}


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [plain(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [plain(node.module), *(f"{plain(node.module)}.{alias.name}" for alias in node.names)]
    return found


def plain(module: str) -> str:
    return module.removeprefix("runtime_matrix.")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_point_one_way(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in imports(path)
        if name.startswith(FORBIDDEN[folder]) and (str(path.relative_to(ROOT)), name) not in ALLOWED
    ]
    assert wrong == []
