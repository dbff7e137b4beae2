from __future__ import annotations

from pathlib import Path

import pytest

from experiments.records.matrix import rows
from experiments.report import read
from experiments.views.columns import Row
from tests.experiments.recorded import sweep


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    return sweep(tmp_path / "runs")


@pytest.fixture
def found(swept: Path) -> list[Row]:
    return rows(read(swept)[0])
