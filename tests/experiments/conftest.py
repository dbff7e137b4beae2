from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import sweep


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    return sweep(tmp_path / "runs")


@pytest.fixture
def found(swept: Path) -> list[Row]:
    return rows(read(swept)[0])
