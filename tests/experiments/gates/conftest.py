from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.gates.findings import Measured
from tests.experiments.gates.judged import record, write_items


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    mine, theirs = write_items(tmp_path / "mine"), write_items(tmp_path / "theirs")
    return Measured("mine", record("mine"), mine, record("eager"), theirs, None)
