"""A cache of texts or bytes by key in a SQLite file. Problems with the file are noted and never raised.

They cost time only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T", str, bytes)

_AT_ONCE = 500  # keys per query; SQLite allows some thousand


class Kept(Generic[T]):
    """One table of values of one type, safe for several processes. With `path` None nothing is stored.

    A `temporary` one needs no path: it is on disk, private, and gone when it is closed or the process ends.
    A damaged file is set aside and replaced; if none can be written, nothing is stored. `note` describes both.
    """

    def __init__(self, path: Path | None, table: str, kind: type[T], temporary: bool = False):
        self._path, self._table = path, table
        self._kind: type[T] = kind
        self._database: sqlite3.Connection | None = None
        self.note: str | None = None
        if path is not None or temporary:
            self._guarded(self._open)

    def get(self, keys: Sequence[Any]) -> dict[Any, T]:
        """Return the stored values by key; keys without a value of the type are left out."""
        values: dict[Any, T] = {}

        def read() -> None:
            assert self._database is not None
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, text FROM {self._table} WHERE key IN ({marks})"
                values.update(self._database.execute(query, part))

        if self._database is not None:
            self._guarded(read)
        return {key: value for key, value in values.items() if isinstance(value, self._kind)}

    def put(self, rows: Iterable[tuple[Any, T]]) -> None:
        """Store (key, value) rows in one transaction, in place of earlier values."""
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
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite's name for a temporary database is the empty one.
        self._database = sqlite3.connect(self._path or "", timeout=30.0, check_same_thread=False)
        # With these, a killed process loses nothing; a power failure may lose the last batches.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        # A column of type TEXT keeps bytes as they are.
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
                    self.note = f"{self._path or 'a temporary file'} cannot be used ({error}): nothing is stored"
                    return
            else:
                return

    def _set_aside(self) -> bool:
        if self._path is None:
            return False
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


class KeptTexts(Kept[str]):
    """A table of texts."""

    def __init__(self, path: Path | None, table: str):
        super().__init__(path, table, str)
