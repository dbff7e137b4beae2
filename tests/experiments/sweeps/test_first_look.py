"""What a sweep says of its first pair while cells are still to come. The records are invented, the launches real."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.sweeps.first_look import FirstLook
from tests.experiments.recorded import make_record, write

SHAPE = ["benchmark=[latency]", "comparison.prompt_tokens=[16,24]", "comparison.new_tokens=24"]


def look(folder: Path, *words: str) -> list[str]:
    """Return what is said of a runtime that is measured between two others."""

    def cell(*own: str) -> Cell:
        return plan(compose([*SHAPE, *own, f"artifacts_dir={folder / 'artifacts'}"]), "test")

    records = [make_record("eager"), make_record("candidate")]
    write(folder, records)
    said: list[str] = []
    first = FirstLook([cell(), cell(*words), cell("seed=2")], folder, lambda text: None, said.append)
    for record in records:
        first.record(record, Deadline(None), lambda: time.sleep(0))
    return said


@pytest.mark.slow
def test_a_pair_is_compared_before_the_last_cell(tmp_path: Path) -> None:
    (line,) = look(tmp_path, "runtime.engine.attention=eager")
    assert re.search(r": candidate (is|takes) .*eager.* \[", line), line
    assert line.endswith("; 1 of 3 cells remain")


@pytest.mark.slow
def test_no_speed_is_shown_for_wrong_outputs(tmp_path: Path) -> None:
    (line,) = look(tmp_path, "runtime=custom", "runtime.engine.target=tests.experiments.cheats:Garbage")
    assert "times as" not in line
    assert "candidate cannot be compared with eager: " in line


def test_a_runtime_that_crashes_is_named(tmp_path: Path) -> None:
    (line,) = look(tmp_path, "runtime=fake", "runtime.engine.fault=crash")
    assert "candidate cannot be compared with eager: fake" in line
