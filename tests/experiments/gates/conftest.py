from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.gates.findings import Measured
from runtime_matrix.experiments.records.comparison import Result
from tests.experiments.gates.judged import record, speed, write_items


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    mine = Result(record("mine"), write_items(tmp_path / "mine"), speed())
    reference = Result(record("eager"), write_items(tmp_path / "theirs"), speed())
    return Measured("mine", mine, reference, None)
