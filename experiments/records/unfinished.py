"""Cells whose run ended before their record was written: what their journal tells is their record."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.records.assemble import assemble
from runtime_matrix.experiments.records.journal import read_journal

_LOCK = "running.lock"  # held by the process that measures the cell, and lost with it


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Mark a cell's folder as being measured, for as long as this block and this process last."""
    path = folder / _LOCK
    with open(path, "w", encoding="utf-8") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def unfinished(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder and the record of each cell that nobody measures any more and that has no record."""
    for journal in sorted(results.glob("**/journal.jsonl")):
        if not (journal.parent / "record.json").exists():
            record = unfinished_record(journal.parent)
            if record is not None:
                yield journal.parent, record


def unfinished_record(folder: Path) -> dict[str, Any] | None:
    """Return the record that a cell's journal tells; None while it is being measured, and for other journals."""
    try:
        events = read_journal(folder / "journal.jsonl")
        if events and events[0]["event"] == "cell" and not _is_running(folder):
            return _record(events)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no journal of this program
    return None


def _record(events: list[dict[str, Any]]) -> dict[str, Any]:
    ends = [event for event in events if event["event"] == "finished"]
    if ends:
        record = assemble(events, status=ends[-1]["status"], reason=ends[-1]["reason"], exit_code=0)
    else:
        reason = "the run ended before this cell did"
        record = assemble(events, status="interrupted", reason=reason, exit_code=None)
    return {**record, "finished_at": None}


def _is_running(folder: Path) -> bool:
    try:
        with open(folder / _LOCK, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
