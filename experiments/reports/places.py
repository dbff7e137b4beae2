"""Rows of several places: folders of records, folders of published matrices, and matrix files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.published import published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import cell_folders
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.text import clean

_HOME = Path("results")


def result_folders() -> list[Path]:
    """Return the folders in `results`; itself if there are none."""
    return sorted(path for path in _HOME.iterdir() if path.is_dir()) if _HOME.is_dir() else [_HOME]


def rows_at(place: Path) -> list[Row]:
    """Return the rows of a folder of records, of the matrices in one, or of a matrix; UserError for a bad one."""
    if place.is_dir():
        return (
            _recorded(place) if cell_folders(place) else [row for path in _matrices(place) for row in _published(path)]
        )
    if not place.is_file():
        raise UserError(f"{place} is not a folder or a file; measure first: python -m experiments.run")
    if place.suffix != ".json":
        print(clean(f"not read: {place}: no matrix"), file=sys.stderr)
        return []
    return _published(place)


def _recorded(folder: Path) -> list[Row]:
    results, refused = read(folder)
    for path, reason in refused:
        raise UserError(f"{path} cannot be read: {reason}; remove it, or measure again")
    return rows(results)


def _published(path: Path) -> list[Row]:
    return published_rows(path, row_keys())


def _matrices(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder that hold an array, as matrices do; results of other programs are objects."""
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON: {error}; write a matrix: report --format json") from error
        if isinstance(content, list):
            yield path
