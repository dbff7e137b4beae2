"""The timed rounds generate as the cell is configured."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.evaluation.decoding import decode_batch
from runtime_matrix.experiments.timing.worker import Setting, Shape, _Worker


@pytest.mark.parametrize("option", ["generation.prefill_chunk=3", "generation.kv_cache=false"])
def test_rounds_follow_the_options_of_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    followed: list[Any] = []

    def noting(*arguments: Any) -> list[list[int]]:
        followed.append(arguments[-1])
        return decode_batch(*arguments)

    monkeypatch.setattr("runtime_matrix.experiments.evaluation.faces.decode_batch", noting)
    cell = plan(compose(["runtime=fake", "model=random", "hw=cpu", f"artifacts_dir={tmp_path}", option]), "")
    with closing(_Worker(cell, None)) as worker:
        worker.load(Setting(1, (), (Shape(1, (8, 8), 2),), 1))
        worker.round([[1, 2, 3, 4, 5]], 2)
    assert len(followed) > 1
    assert all(options == cell.config.generation for options in followed)
