from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.validation.simulation import main
from runtime_matrix.experiments.validation.simulation_table import Figure


def test_the_simulation_writes_its_table_and_draws_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--output", str(tmp_path / "first.md")]) == 0
    assert main(["--quick", "--output", str(tmp_path / "second.md")]) == 0
    text = (tmp_path / "first.md").read_text()
    assert text == (tmp_path / "second.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "gate `ci`, 2 % does not matter, 5 % does" in text
    assert "gate `speed`, 1 % does not matter, 3 % does" in text
    rows = [line for line in text.splitlines() if line.startswith("| normal | 1 % |")]
    assert all("**" not in row for row in rows[:1])


def test_a_figure_that_misses_its_target_is_bold() -> None:
    assert str(Figure(3.0, 0.5, most=1.0)) == "3.00 → 0.50"
    assert str(Figure(3.0, 1.5, most=1.0)) == "3.00 → **1.50**"
    assert str(Figure(None, 90.0, least=95.0)) == "**90.00**"
    assert str(Figure(None, 90.0)) == "90.00"
