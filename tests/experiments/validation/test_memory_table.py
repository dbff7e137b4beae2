"""Coverage counts the intervals that hold what was measured, and the published table is the one of its data."""

from __future__ import annotations

import json
from dataclasses import replace

from runtime_matrix.experiments.validation.memory_table import Judged, coverage, markdown
from tests.conftest import ROOT

CELL = Judged(
    model="narrow",
    is_judged=True,
    weights=1,
    runtime="eager",
    dtype="float32",
    rows=1,
    prompt_tokens=64,
    new_tokens=4,
    was_built=False,
    status="ok",
    reason=None,
    measured_bytes=100.0,
    load_bytes=50.0,
    low_bytes=82,
    high_bytes=118,
)


def test_only_cells_with_both_are_counted() -> None:
    cells = [
        CELL,
        replace(CELL, measured_bytes=119.0),
        replace(CELL, measured_bytes=None),
        replace(CELL, low_bytes=None),
    ]
    assert coverage(cells) == (1, 2)
    assert CELL.width_ratio == 0.18
    text = markdown(cells, "a command", "a machine")
    assert "other models: 1 of 2 intervals hold the measured peak (50.0 %); the widest is ± 18 %" in text
    assert text.count("**no**") == 1


def test_the_published_table_follows_from_its_data() -> None:
    folder = ROOT / "results" / "amd-epyc-2-cores"
    cells = [Judged(**cell) for cell in json.loads((folder / "memory_estimates.json").read_text())["cells"]]
    published = (folder / "memory_estimates.md").read_text()
    for is_judged in (False, True):
        held, total = coverage([cell for cell in cells if cell.is_judged is is_judged])
        assert f"{held} of {total} intervals" in published
        assert f"{held} of" in (ROOT / "docs" / "sweep.md").read_text()
