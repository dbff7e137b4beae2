"""Records on disk: written atomically and once, read with a reason for each that cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError

SCHEMA_VERSION = 1
SPEED_FILE, ANSWERS_FILE = "speed.json", "answers.json"  # beside a record: what comparing it found


def write_atomic(path: Path, text: str, exclusive: bool = False) -> None:
    """Write the whole file or nothing. FileExistsError when `exclusive` and it is there already."""
    if exclusive and path.exists():
        raise FileExistsError(f"{path} is already recorded")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o644)  # a temporary file is its owner's alone
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_records(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """Return the readable records, oldest first, and each other file with the reason why it was left out."""
    records, refused = [], []
    for path in sorted(folder.glob("**/record.json")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            refused.append((path, f"damaged: {error}"))
            continue
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            refused.append((path, f"schema {version}, this program reads {SCHEMA_VERSION}"))
            continue
        records.append(record)
        records[-1:] = attach(records[-1:], path.parents[1])
    records.sort(key=lambda record: record["started_at"])
    return records, refused


def attach(records: Sequence[dict[str, Any]], results: Path) -> list[dict[str, Any]]:
    """Return the records with what was found later beside them: `speed` and `answers`, None where there is none."""
    return [
        {
            **record,
            "speed": _beside(results / record["record_id"] / SPEED_FILE),
            "answers": _beside(results / record["record_id"] / ANSWERS_FILE),
        }
        for record in records
    ]


def _beside(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("schema_version") == 1 else None


def check_writable(folder: Path) -> None:
    """Make the folder; UserError when nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"results_dir={folder} cannot be written: {error.strerror}; choose another folder") from error
