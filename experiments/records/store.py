"""Records on disk: each is written once and atomically; unreadable ones are reported with a reason."""

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

SPEED_FILE, OUTPUT_DIFF_FILE = "speed.json", "output_diff.json"  # next to a record: its comparisons
_EARLIER_OUTPUT_DIFF_FILE = "answers.json"


def write_atomic(path: Path, text: str, exclusive: bool = False) -> None:
    """Write the whole file or nothing; FileExistsError if `exclusive` and the file exists."""
    if exclusive and path.exists():
        raise FileExistsError(f"{path} is already recorded")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)  # temporary files are readable by their owner only
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _put(temporary, path, exclusive)
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


def _put(temporary: str, path: Path, exclusive: bool) -> None:
    if exclusive:
        try:
            os.link(temporary, path)  # fails if another process, perhaps on another node, has just written it
        except FileExistsError as error:
            raise FileExistsError(f"{path} is already recorded") from error
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
        else:
            os.unlink(temporary)
    else:
        os.replace(temporary, path)


def cell_folders(folder: Path) -> list[Path]:
    """Return the folders below `folder` with a record or a journal, oldest first, and none within another.

    Their names begin with the start time of their run. What a cell's own benchmarks measured within its folder belongs
    to that cell.
    """
    cells = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if "record.json" in files or "journal.jsonl" in files:
            cells.append(Path(parent))
            folders.clear()
    return sorted(cells, key=lambda path: path.name)


def read_results(folder: Path, folders: Sequence[Path] | None = None) -> tuple[list[Result], list[tuple[Path, str]]]:
    """Return the readable records, oldest first, and each unreadable file with the reason.

    `folders` restricts reading to these cells. The record of a killed cell is derived from its journal.
    """
    results: list[Result] = []
    refused: list[tuple[Path, str]] = []
    for cell_folder in cell_folders(folder) if folders is None else folders:
        path = cell_folder / "record.json"
        try:
            record = read_record(json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number))
        except FileNotFoundError:
            unfinished = unfinished_record(cell_folder)
            if unfinished is None:
                continue
            record = unfinished
        except (OSError, ValueError, RecursionError) as error:
            refused.append((path, _reason(error)))
            continue
        results.append(_attached(record, cell_folder))
    results.sort(key=lambda result: result.record.started_at)
    return results, refused


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _reason(error: Exception) -> str:
    text = str(error)
    prefixes = ("foreign", "damaged", "schema", "older schema")
    return text if text.startswith(prefixes) else f"damaged: {text}"


def write_record(folder: Path, record: Record) -> None:
    """Write a cell's record once; FileExistsError if there is one."""
    text = json.dumps(to_plain(record), indent=1, allow_nan=False)
    write_atomic(folder / "record.json", text + "\n", exclusive=True)


def attach(records: Sequence[Record], results: Path) -> list[Result]:
    """Return the records with their comparisons from `results`."""
    return [_attached(record, results / record.record_id) for record in records]


def _attached(record: Record, folder: Path) -> Result:
    names = (OUTPUT_DIFF_FILE, _EARLIER_OUTPUT_DIFF_FILE)
    path = next((folder / name for name in names if (folder / name).exists()), folder / OUTPUT_DIFF_FILE)
    diff, diff_problem = _beside(path, OUTPUT_DIFF_SCHEMA_VERSION, OutputDiff)
    speed, speed_problem = _beside(folder / SPEED_FILE, SPEED_SCHEMA_VERSION, Speed)
    return Result(record, folder, speed, diff, speed_problem, diff_problem)


def read_speed(folder: Path) -> Speed | None:
    """Return the interleaved comparison next to a record; None if it is missing or unreadable."""
    speed, _ = _beside(folder / SPEED_FILE, SPEED_SCHEMA_VERSION, Speed)
    return speed


def _beside(path: Path, version: int, kind: type[T]) -> tuple[T | None, str | None]:
    """Return a file next to a record, and why it cannot be read; a missing file is no problem."""
    try:
        return _read(path, version, kind), None
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read: {error}"


def _read(path: Path, version: int, kind: type[T]) -> T | None:
    """Return a file next to a record; None if it is missing, ValueError if it has another version or is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        return None
    if not isinstance(content, dict) or content.get("schema_version") != version:
        raise ValueError(f"it is not of schema {version}; run the sweep again with resume=true to compare again")
    return typed(content, kind)


def check_writable(folder: Path, name: str = "results_dir") -> None:
    """Create the folder; UserError if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{name}={folder} cannot be written: {error.strerror}; choose another folder") from error
