"""Locate the calibration text and the draft model: bundled, or the user's own."""

from __future__ import annotations

from pathlib import Path

from runtime_matrix.experiments.tasks.task import BUNDLED_DATA

BUNDLED = BUNDLED_DATA.parent


def calibration_path(data: str) -> Path:
    """Return the path of the calibration text; it may not exist."""
    return BUNDLED_DATA / "calibration.txt" if data == "bundled" else Path(data).expanduser()


def draft_folder(draft_model: str) -> Path:
    """Return the folder of the draft model; it may not exist."""
    return BUNDLED / "draft" if draft_model == "bundled" else Path(draft_model).expanduser()
