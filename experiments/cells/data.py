"""Where data beside that of the benchmarks lies: the bundled file, or the user's own."""

from __future__ import annotations

from pathlib import Path

from runtime_matrix.experiments.tasks.task import BUNDLED_DATA

BUNDLED = BUNDLED_DATA.parent


def calibration_path(data: str) -> Path:
    """Return the text by which weights are calibrated."""
    return BUNDLED_DATA / "calibration.txt" if data == "bundled" else Path(data).expanduser()


def draft_folder(draft_model: str) -> Path:
    """Return the folder of the model that guesses ahead: the user's own, or the bundled model's draft."""
    return BUNDLED / "draft" if draft_model == "bundled" else Path(draft_model).expanduser()
