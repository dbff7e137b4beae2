"""A published matrix: the rows of `report --format json`, read again by a version that may know more."""

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
    """Return the published matrix that a path names, a file or a folder that holds no records; None for records."""
    file = path / MATRIX_FILE if path.is_dir() else path
    return file if file.is_file() and not any(path.glob("*/record.json")) else None


def published_rows(file: Path, keys: Iterable[str]) -> list[Row]:
    """Return the rows of a published matrix; all have the same figures, `keys` among them, None where not written.

    UserError for another file.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is no array of rows")
        rows = [{new_figure(key): value for key, value in row.items()} for row in rows]
        lacking = next((key for row in rows for key in _NEEDED if key not in row), None)
        if lacking is not None:
            raise ValueError(f"a row has no {lacking}")
        every = dict.fromkeys([*keys, *(key for row in rows for key in row)])
        return [_row({**every, **_by_wall_time(row)}) for row in rows]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is no published matrix: {error}; write one: report --format json") from error


def _row(flat: JsonObject) -> Row:
    """Return the row; what an earlier version did not write of its texts is "" or None."""
    own = set(Row.__struct_fields__) - {"figures"}
    figures: Figures = {
        key: value
        for key, value in flat.items()
        if key not in own and (value is None or (isinstance(value, int | float) and not isinstance(value, bool)))
    }
    texts = {key: flat[key] for key in own if flat.get(key) is not None}
    return typed({**dict.fromkeys(_LATER_TEXTS, ""), **texts, "figures": figures}, Row)


def _by_wall_time(row: JsonObject) -> JsonObject:
    """Return a row without the speedups of earlier versions, which were of CPU time on a CPU: they rank nothing."""
    if row.get("speedup_clock") != "cpu_s":
        return row
    gone = [key for key in row if key.startswith(("speedup_ratio", "prefill_speedup_ratio", "break_even"))]
    return row | dict.fromkeys(gone)
