"""A cache of texts by key in a SQLite file. Problems with the file are noted and never raised: they cost time only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_AT_ONCE = 500  # keys per query; SQLite allows some thousand


class KeptTexts:
    """One table of a file, safe for several processes. With `path` None nothing is stored.

    A damaged file is set aside and replaced; if none can be written, nothing is stored. `note` describes both.
    """

    def __init__(self, path: Path | None, table: str):
        self._path, self._table = path, table
        self._database: sqlite3.Connection | None = None
        self.note: str | None = None
        if path is not None:
            self._guarded(self._open)

    def get(self, keys: Sequence[Any]) -> dict[Any, str]:
        """Return the stored texts by key; keys without a text are left out."""
        texts: dict[Any, str] = {}

        def read() -> None:
            assert self._database is not None
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, text FROM {self._table} WHERE key IN ({marks})"
                texts.update(self._database.execute(query, part))

        if self._database is not None:
            self._guarded(read)
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def put(self, rows: Iterable[tuple[Any, str]]) -> None:
        """Store (key, text) rows in one transaction, in place of earlier texts."""
        batch = list(rows)

        def write() -> None:
            assert self._database is not None
            with self._database:
                self._database.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", batch)

        if self._database is not None:
            self._guarded(write)

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        if self._database is not None:
            self._database.close()
        self._database = None

    def _open(self) -> None:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path, timeout=30.0, check_same_thread=False)
        # With these, a killed process loses nothing; a power failure may lose the last batches.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {self._table} (key BLOB PRIMARY KEY, text TEXT)")

    def _guarded(self, work: Any) -> None:
        """Call `work`; if the file is damaged, set it aside and retry once; otherwise note the error."""
        for attempt in range(2):
            try:
                if self._database is None:
                    self._open()
                work()
            except (sqlite3.Error, OSError) as error:
                with suppress(sqlite3.Error):
                    self.close()
                self._database = None
                is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
                    error, sqlite3.OperationalError
                )
                if not is_damaged or attempt or not self._set_aside():
                    self.note = f"{self._path} cannot be used ({error}): nothing is stored"
                    return
            else:
                return

    def _set_aside(self) -> bool:
        assert self._path is not None
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            os.replace(self._path, aside)
        except OSError:
            return False
        for end in ("-wal", "-shm"):
            with suppress(OSError):
                os.unlink(f"{self._path}{end}")
        self.note = f"{self._path} was damaged: set aside as {aside.name} and replaced by a new one"
        return True
