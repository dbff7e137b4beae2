"""Reads a published matrix, the rows of `report --format json`, also one written by an earlier version."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.renamed import new_figure
from runtime_matrix.experiments.records.row import Figures, Row
from runtime_matrix.experiments.records.schema import typed

MATRIX_FILE = "matrix.json"
_LATER_TEXTS = (
    "engine",
    "weights",
    "placement",
    "dtype",
    "model_title",
    "model_digest",
    "machine",
    "config_hash",
    "command",
)
_NEEDED = ("runtime", "model", "hw", "status", "is_reference", "record_id", "run_id", "started_at", "threads")


def published_file(path: Path) -> Path | None:
    """Return the published matrix at a path, a file or a folder without records; None if there are records."""
    file = path / MATRIX_FILE if path.is_dir() else path
    return file if file.is_file() and not any(path.glob("*/record.json")) else None


def published_rows(file: Path, keys: Iterable[str]) -> list[Row]:
    """Return the rows of a published matrix. All have the same figures, including `keys`; missing ones are None.

    Raises UserError if the file is not a published matrix.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is not an array of rows")
        rows = [{new_figure(key): value for key, value in row.items()} for row in rows]
        missing = next((key for row in rows for key in _NEEDED if key not in row), None)
        if missing is not None:
            raise ValueError(f"a row has no {missing}")
        defaults = dict.fromkeys([*keys, *(key for row in rows for key in row)])
        return [_row({**defaults, **_by_wall_time(row)}) for row in rows]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a published matrix: {error}; write one: report --format json") from error


def _row(flat: JsonObject) -> Row:
    """Return the row; texts that an earlier version did not write are "" or None."""
    own = set(Row.__struct_fields__) - {"figures"}
    figures: Figures = {
        key: value
        for key, value in flat.items()
        if key not in own and (value is None or (isinstance(value, int | float) and not isinstance(value, bool)))
    }
    texts = {key: flat[key] for key in own if flat.get(key) is not None}
    return typed({**dict.fromkeys(_LATER_TEXTS, ""), **texts, "figures": figures}, Row)


def _by_wall_time(row: JsonObject) -> JsonObject:
    """Return the row without speedups by CPU time, as earlier versions published them: rankings use wall time."""
    if row.get("speedup_clock") != "cpu_s":
        return row
    dropped = [key for key in row if key.startswith(("speedup_ratio", "prefill_speedup_ratio", "break_even"))]
    return row | dict.fromkeys(dropped)
