"""Cells whose run ended before their record was written: the record is derived from the journal."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.assemble import assemble
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.schema import Record

_LOCK = "running.lock"  # locked by the process that measures the cell; the lock ends with the process


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Mark a cell's folder as being measured until this block or this process ends."""
    path = folder / _LOCK
    with open(path, "w", encoding="utf-8") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def unfinished(results: Path) -> Iterator[tuple[Path, Record]]:
    """Yield folder and derived record of each cell without a record that is no longer being measured."""
    for journal in sorted(results.glob("**/journal.jsonl")):
        if not (journal.parent / "record.json").exists():
            record = unfinished_record(journal.parent)
            if record is not None:
                yield journal.parent, record


def unfinished_record(folder: Path) -> Record | None:
    """Return the record derived from a cell's journal; None while it is measured, and for foreign journals."""
    try:
        events = read_journal(folder / "journal.jsonl")
        if events and events[0]["event"] == "cell" and not _is_running(folder):
            return _record(events)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not a journal of this program
    return None


def _record(events: list[JsonObject]) -> Record:
    ends = [event for event in events if event["event"] == "finished"]
    if ends:
        return assemble(events, status=ends[-1]["status"], reason=ends[-1]["reason"], exit_code=0)
    reason = "the run ended before this cell finished"
    return assemble(events, status="interrupted", reason=reason, exit_code=None)


def _is_running(folder: Path) -> bool:
    try:
        with open(folder / _LOCK, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
