"""Records on disk: written atomically and once, read with a reason for each that cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.comparison import (
    OUTPUT_DIFF_SCHEMA_VERSION,
    SPEED_SCHEMA_VERSION,
    OutputDiff,
    Result,
    Speed,
)
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.schema import Record, to_plain, typed
from runtime_matrix.experiments.records.unfinished import unfinished_record

T = TypeVar("T")

SPEED_FILE, OUTPUT_DIFF_FILE = "speed.json", "output_diff.json"  # beside a record: what comparing it found
_EARLIER_OUTPUT_DIFF_FILE = "answers.json"


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


def read_results(folder: Path, folders: Sequence[Path] | None = None) -> tuple[list[Result], list[tuple[Path, str]]]:
    """Return the readable records, oldest first, and each other file with the reason why it was left out.

    `folders`: of these cells alone. A cell whose run was killed has the record that its journal tells.
    """
    results: list[Result] = []
    refused: list[tuple[Path, str]] = []
    for home in cell_folders(folder) if folders is None else folders:
        path = home / "record.json"
        try:
            record = read_record(json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number))
        except FileNotFoundError:
            unfinished = unfinished_record(home)
            if unfinished is None:
                continue
            record = unfinished
        except (OSError, ValueError, RecursionError) as error:
            refused.append((path, _reason(error)))
            continue
        results.append(_attached(record, home))
    results.sort(key=lambda result: result.record.started_at)
    return results, refused


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _reason(error: Exception) -> str:
    text = str(error)
    told = ("foreign", "damaged", "schema", "older schema")
    return text if text.startswith(told) else f"damaged: {text}"


def write_record(folder: Path, record: Record) -> None:
    """Write a cell's record, once. FileExistsError where it is there already."""
    text = json.dumps(to_plain(record), indent=1, allow_nan=False)
    write_atomic(folder / "record.json", text + "\n", exclusive=True)


def attach(records: Sequence[Record], results: Path) -> list[Result]:
    """Return the records with what was found later beside them."""
    return [_attached(record, results / record.record_id) for record in records]


def _attached(record: Record, folder: Path) -> Result:
    names = (OUTPUT_DIFF_FILE, _EARLIER_OUTPUT_DIFF_FILE)
    path = next((folder / name for name in names if (folder / name).exists()), folder / OUTPUT_DIFF_FILE)
    diff = _beside(path, OUTPUT_DIFF_SCHEMA_VERSION, OutputDiff)
    speed, problem = None, None
    try:
        speed = _read(folder / SPEED_FILE, SPEED_SCHEMA_VERSION, Speed)
    except (OSError, ValueError) as error:
        problem = f"{SPEED_FILE} cannot be read: {error}"
    return Result(record, folder, speed, diff, problem)


def read_speed(folder: Path) -> Speed | None:
    """Return the interleaved comparison beside a record; None where there is none that can be read."""
    return _beside(folder / SPEED_FILE, SPEED_SCHEMA_VERSION, Speed)


def _beside(path: Path, version: int, kind: type[T]) -> T | None:
    with contextlib.suppress(OSError, ValueError):
        return _read(path, version, kind)
    return None


def _read(path: Path, version: int, kind: type[T]) -> T | None:
    """Return what lies beside a record; None where nothing does. ValueError for another version, or damage."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        return None
    if not isinstance(content, dict) or content.get("schema_version") != version:
        raise ValueError(f"it is not of schema {version}; the sweep's command with resume=true compares again")
    return typed(content, kind)


def check_writable(folder: Path, name: str = "results_dir") -> None:
    """Make the folder; UserError when nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{name}={folder} cannot be written: {error.strerror}; choose another folder") from error
