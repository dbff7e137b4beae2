"""Records on disk: written atomically and once, read with a reason for each that cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.records.assemble import SCHEMA_VERSION
from runtime_matrix.experiments.records.unfinished import unfinished_record

SPEED_SCHEMA_VERSION = 2  # 1 timed work that nobody checked, at one thread
SPEED_FILE, ANSWERS_FILE = "speed.json", "answers.json"  # beside a record: what comparing it found
_MISSING = object()
_TEXT, _NULL = (str,), type(None)
_NEEDED: dict[str, tuple[type, ...]] = {  # what the matrix cannot do without
    **dict.fromkeys(("run_id", "record_id", "started_at", "status", "config_hash", "environment_hash"), _TEXT),
    **dict.fromkeys(("runtime.name", "runtime.engine", "runtime.weights", "runtime.placement"), _TEXT),
    **dict.fromkeys(("runtime.dtype", "model.name", "model.digest", "hw.name", "command"), _TEXT),
    "hw.threads": (int,),
    "is_reference": (bool,),
    "reason": (str, _NULL),
    "config": (dict,),
    "environment": (dict,),
    "load": (dict, _NULL),
    "replay": (dict, _NULL),
    "benchmarks": (list,),
}
_ENTRY = {"benchmark", "status", "samples", "figures", "parameters", "items_file"}


def write_atomic(path: Path, text: str, exclusive: bool = False) -> None:
    """Write the whole file or nothing. FileExistsError when `exclusive` and it is there already."""
    if exclusive and path.exists():
        raise FileExistsError(f"{path} is already recorded")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)  # a temporary file is its owner's alone
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cell_folders(folder: Path) -> list[Path]:
    """Return the folders below that hold a record, or the journal of a cell that has none; the oldest first.

    Their names begin with the time at which their run began.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        if "record.json" in files or "journal.jsonl" in files:
            found.append(Path(place))
    return sorted(found, key=lambda path: path.name)


def read_records(
    folder: Path, folders: Sequence[Path] | None = None
) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """Return the readable records, oldest first, and each other file with the reason why it was left out.

    `folders`: of these cells alone. A cell whose run was killed has the record that its journal tells.
    """
    records: list[dict[str, Any]] = []
    refused: list[tuple[Path, str]] = []
    for home in cell_folders(folder) if folders is None else folders:
        path = home / "record.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        except FileNotFoundError:
            record = unfinished_record(home)
            if record is None:
                continue
            path = home / "journal.jsonl"
        except (OSError, ValueError, RecursionError) as error:
            refused.append((path, f"damaged: {error}"))
            continue
        _sort(path, record, records, refused)
    records.sort(key=lambda record: record["started_at"])
    return records, refused


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _sort(path: Path, record: Any, records: list[dict[str, Any]], refused: list[tuple[Path, str]]) -> None:
    reason = _unreadable(record)
    if reason is None:
        records.append({**record, **_found_later(path.parent)})
    else:
        refused.append((path, reason))


def _unreadable(record: Any) -> str | None:
    """Return why this is no record that the matrix can show; None where it is one."""
    if not isinstance(record, dict) or "schema_version" not in record:
        return "foreign: not a record of this program"
    version = record["schema_version"]
    if version != SCHEMA_VERSION:
        age = "older " if isinstance(version, int) and version < SCHEMA_VERSION else ""
        return f"{age}schema {version}, this program reads {SCHEMA_VERSION}: measure again"
    for name, wanted in _NEEDED.items():
        value: Any = record
        for part in name.split("."):
            value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value is _MISSING:
            return f"damaged: no {name}"
        if not isinstance(value, wanted):
            return f"damaged: {name} is {type(value).__name__}"
    if not all(isinstance(entry, dict) and entry.keys() >= _ENTRY for entry in record["benchmarks"]):
        return f"damaged: a benchmark without {', '.join(sorted(_ENTRY))}"
    return None


def attach(records: Sequence[dict[str, Any]], results: Path) -> list[dict[str, Any]]:
    """Return the records with what was found later beside them: `speed` and `answers`, None where there is none."""
    return [{**record, **_found_later(results / record["record_id"])} for record in records]


def _found_later(folder: Path) -> dict[str, Any]:
    return {
        "speed": _beside(folder / SPEED_FILE, SPEED_SCHEMA_VERSION),
        "answers": _beside(folder / ANSWERS_FILE, 1),
        "folder": str(folder),
    }


def _beside(path: Path, version: int) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("schema_version") == version else None


def check_writable(folder: Path, name: str = "results_dir") -> None:
    """Make the folder; UserError when nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{name}={folder} cannot be written: {error.strerror}; choose another folder") from error
